-- What the ledger says of each of the chunks asked for, in their order, and whether it lacks their keys. `compare`: its
-- key is known with another ETag, and its content may be the same; see same_content.sql.
with asked as (
    select
        unnest($keys::varchar[]) as chunk_key,
        unnest($etags::varchar[]) as etag,
        unnest($sizes::bigint[]) as size,
        unnest(range(len($keys::varchar[]))) as place
),

matched as (
    select
        asked.place,
        before.chunk_key is null as is_new_key,
        before.state = 'accepted' as was_accepted,
        (asked.chunk_key, asked.etag) in (select (chunk_key, etag) from known_chunks) as is_known,
        before.is_final
        and before.content_sha256 is not null
        and before.content_bytes = coalesce(asked.size, before.content_bytes) as may_be_same_content
    from asked
    left join found_before as before on asked.chunk_key = before.chunk_key
)

select
    case
        when bool_or(is_known) then 'known'
        when bool_or(may_be_same_content) then 'compare'
        when bool_or(was_accepted) then 'conflict'
        else 'new'
    end as seen_as,
    bool_or(is_new_key) as is_new_key
from matched
group by place
order by place
