-- What the copy of the ledger holds of some keys ($keys, JSON), or of all (null).
select chunk_key, etag, coalesce(rejected_by_limit, '') as rejected_by_limit
from found_before
where
    ($keys is null or chunk_key in (select unnest(from_json($keys, '["varchar"]'))))
    and (state <> 'rejected' or chunk_key not in (select chunk_key from raw.chunks where state = 'accepted'))
order by chunk_seq nulls first
