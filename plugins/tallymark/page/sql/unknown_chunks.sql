-- Those of the listed chunks that the ledger does not know, by their places in the list, and whether their keys are new:
-- see known_chunks.sql of the load.
with listed as (
    select
        unnest(from_json($keys, '["varchar"]')) as chunk_key,
        unnest(from_json($etags, '["varchar"]')) as etag,
        unnest(range(cast(json_array_length($keys) as bigint))) as place
),

known as (
    select chunk_key, etag from ledger
    where
        state = 'accepted'
        or chunk_key not in (select chunk_key from ledger where state = 'accepted')
        and (rejected_by_limit(reason) is null or list_contains($limits, rejected_by_limit(reason)))
    union all
    select chunk_key, etag from conflicts
)

select
    place,
    chunk_key not in (select chunk_key from ledger) as is_new
from listed
anti join known using (chunk_key, etag)
order by place
