-- What the ledger says of each of the chunks asked for, in their order; $keys, $etags and $sizes are JSON. `compare`: its
-- key is known with another ETag, and its content may be the same; see same_content.sql.
with asked as (
    select
        unnest(from_json($keys, '["varchar"]')) as chunk_key,
        unnest(from_json($etags, '["varchar"]')) as etag,
        unnest(from_json($sizes, '["bigint"]')) as size,
        unnest(range(cast(json_array_length($keys) as bigint))) as place
),

matched as (
    select
        asked.place,
        before.state,
        before.etag = asked.etag as is_same_etag,
        before.content_sha256 is not null and before.content_bytes = coalesce(asked.size, before.content_bytes)
            as may_be_same_content,
        before.rejected_by_limit is null or list_contains($limits, before.rejected_by_limit) as is_final
    from asked
    left join found_before as before using (chunk_key)
)

select
    case
        when bool_or(is_same_etag and state <> 'rejected') then 'known'
        when bool_or(is_same_etag and is_final) and not bool_or(state = 'accepted') then 'known'
        when bool_or(may_be_same_content and is_final) then 'compare'
        when bool_or(state = 'accepted') then 'conflict'
        else 'new'
    end
from matched
group by place
order by place
