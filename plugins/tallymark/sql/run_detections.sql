with made as (
    select detections.*
    from detections
    where
        file_number in (select file_number from output.files where file_number is not null and put_at >= $since)
        or (file_number is null and $with_held)
    order by detection_id
    limit $limit
)

select chunk_seq, pattern_id, action_type, merchant, customer, evidence(made) as evidence
from made
order by detection_id
