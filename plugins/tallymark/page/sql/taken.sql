-- Of the chunks that were taken: how many keys, when the last one landed, and the last $last keys in their order.
select
    count(distinct chunk_key) as chunks,
    max(landed_at) as last_landed_at,
    coalesce(list(chunk_key order by chunk_seq)[-$last:], []) as last_keys
from ledger
