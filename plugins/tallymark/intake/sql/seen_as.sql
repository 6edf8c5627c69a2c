-- What the ledger says of each of the chunks asked for, in their order; $keys and $etags are JSON.
with asked as (
    select
        unnest(from_json($keys, '["varchar"]')) as chunk_key,
        unnest(from_json($etags, '["varchar"]')) as etag,
        unnest(range(cast(json_array_length($keys) as bigint))) as place
)

select
    case
        when bool_or(before.etag = asked.etag and before.state <> 'rejected') then 'known'
        when bool_or(before.state = 'accepted') then 'conflict'
        when bool_or(
            before.etag = asked.etag
            and (before.rejected_by_limit is null or list_contains($limits, before.rejected_by_limit))
        ) then 'known'
        else 'new'
    end
from asked
left join found_before as before using (chunk_key)
group by asked.place
order by asked.place
