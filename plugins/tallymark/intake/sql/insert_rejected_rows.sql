insert into raw.rejected_rows by name
select
    cast($chunk_seqs as bigint[])[file] as chunk_seq, $version as importance_version, $object_keys[file] as object_key,
    line_number, line, reason
from found_rejected
inner join file_rows using (file, line_number)
