-- Whether the quotes of a header do not match, and its names; an empty one is ''.
select
    has_unbalanced_quote(line) as is_broken,
    list_transform(csv_fields(line), lambda field: coalesce(bare(field), '')) as names
from (select $line as line)
