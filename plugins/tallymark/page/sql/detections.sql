with page as (
    select * from matching($pattern, $merchant, $customer)
    order by detection_id desc
    limit $limit
    offset $offset
)

select
    detection_id,
    pattern_id,
    action_type,
    customer,
    merchant,
    evidence(page) as evidence,
    thresholds,
    chunk_seq,
    y_started_at,
    detected_at,
    file_number
from page
order by detection_id desc
