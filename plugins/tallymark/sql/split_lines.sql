-- The rows of one object as text, in the temporary table `file_rows`: one row per line below the header
-- that is not empty.
create or replace temp table file_rows as
with file as materialized (
    select string_split($text, chr(10)) as lines
),

numbered as (
    select
        unnest(lines) as line,
        unnest(range(1, len(lines) + 1)) as line_number
    from file
)

select line_number, line
from numbered
where line_number > $header_line and line <> ''
