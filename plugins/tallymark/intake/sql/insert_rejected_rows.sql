insert into raw.rejected_rows by name
select
    cast($chunk_seqs as bigint[])[file] as chunk_seq, $version as importance_version, $object_keys[file] as object_key,
    line_number, line, reason
from judged_rows
where reason is not null
