-- What was rejected of a chunk, or of a version of the customer importance: rows of it, or all of it.
select object_key, line_number, reason, line
from raw.rejected_rows
where chunk_seq = $chunk_seq or importance_version = $version
union all
select chunk_key, null, reason, null
from raw.chunks
where chunk_seq = $chunk_seq and state = 'rejected'
union all
select $customers_prefix, null, reason, null
from raw.importance_versions
where importance_version = $version and state = 'rejected'
order by object_key, line_number
