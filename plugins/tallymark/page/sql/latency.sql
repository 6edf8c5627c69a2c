select chunk_seq, chunk_key, epoch(out_at - landed_at) as seconds
from ledger
where state = 'accepted' and out_at is not null
qualify row_number() over (order by chunk_seq desc) <= 200
order by chunk_seq
