select
    chunk_seq,
    chunk_key,
    importance_version,
    y_started_at,
    rows_accepted
from {{ source('raw', 'chunks') }}
where state = 'accepted'
