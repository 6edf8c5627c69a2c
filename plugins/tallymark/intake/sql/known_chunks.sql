-- What the ledger index holds of some keys, or of all ($keys is null).
select chunk_key, etag
from known_chunks
where $keys is null or chunk_key in (select unnest($keys::varchar[]))
order by chunk_seq nulls first
