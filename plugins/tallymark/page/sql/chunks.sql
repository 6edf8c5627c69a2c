select
    chunk_seq,
    chunk_key,
    etag,
    state,
    first_error,
    rows_in_file,
    rows_accepted,
    rows_rejected,
    importance_version,
    detections,
    landed_at,
    y_started_at,
    loaded_at,
    out_at,
    epoch(out_at - landed_at) as seconds,
    rejected_file
from ledger
where
    ($state = '' or state = $state or ($state = 'with rejected rows' and rows_rejected > 0))
    and ($chunk = '' or contains(lower(chunk_key), lower($chunk)))
order by chunk_seq desc
limit $limit
offset $offset
