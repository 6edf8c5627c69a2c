select conflicts.chunk_key, conflicts.etag, conflicts.landed_at, conflicts.seen_at, taken.etag as taken_etag, chunk_seq
from conflicts
left join ledger as taken on conflicts.chunk_key = taken.chunk_key and taken.state = 'accepted'
order by seen_at desc, conflicts.chunk_key
limit $limit
