-- Which of the limits, with its value, the reason of a rejection ends in; null: it hangs on no setting.
create or replace temp macro rejected_by_limit(reason) as
    nullif(regexp_extract(reason, '[0-9]+ \(setting [a-z_]+\)$'), '');

-- What was found in the bucket before: chunks, and conflicts, which have no chunk_seq.
create or replace temp view found_before as
select chunk_seq, chunk_key, etag, state, rejected_by_limit(reason) as rejected_by_limit
from raw.chunks
union all
select null, chunk_key, etag, 'conflict', null
from raw.conflicts
