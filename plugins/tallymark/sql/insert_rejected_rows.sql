insert into raw.rejected_rows by name
select
    $chunk_seq as chunk_seq, $version as importance_version, $object_key as object_key, line_number, line, reason
from judged_rows
where reason is not null
order by line_number
