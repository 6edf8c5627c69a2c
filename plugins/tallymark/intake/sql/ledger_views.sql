-- What was found in the bucket before: chunks, and conflicts, which have no chunk_seq. A rejection is final unless a
-- limit led to it that has changed since.
create or replace temp view found_before as
select
    chunk_seq,
    chunk_key,
    etag,
    content_bytes,
    content_sha256,
    state,
    limit_setting is null or (limit_setting, limit_bytes) in (select (setting, bytes) from limits_in_force) as is_final
from raw.chunks
union all by name
select chunk_key, etag, 'conflict' as state, true as is_final
from raw.conflicts;

-- What is not taken again, by key and ETag. A rejected chunk is known until another object is accepted under its key.
create or replace temp view known_chunks as
select chunk_seq, chunk_key, etag
from found_before
where
    state <> 'rejected'
    or (is_final and chunk_key not in (select chunk_key from raw.chunks where state = 'accepted'));
