-- Those of the listed chunks that were neither taken nor recorded as a conflict, by their places in the list.
with listed as (
    select unnest($keys) as chunk_key, unnest($etags) as etag, unnest(range(len($keys))) as place
),

known as (
    select chunk_key, etag from ledger
    union all
    select chunk_key, etag from conflicts
)

select place from listed anti join known using (chunk_key, etag) order by place
