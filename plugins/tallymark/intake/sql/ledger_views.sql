-- What was found in the bucket before: chunks, and conflicts, which have no chunk_seq.
create or replace temp view found_before as
select
    chunk_seq, chunk_key, etag, content_bytes, content_sha256, state, rejected_by_limit(reason) as rejected_by_limit
from raw.chunks
union all
select null, chunk_key, etag, null, null, 'conflict', null
from raw.conflicts
