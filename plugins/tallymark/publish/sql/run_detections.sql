with made as (
    select *
    from (
        select * from detections
        where
            file_number in (select file_number from output.files where file_number is not null and put_at >= $since)
            or (file_number is null and $with_held)
        union all by name
        select * from batch_detections
        where $with_held and chunk_seq > (select coalesce(max(chunk_seq), 0) from output.releases)
    )
    order by detection_id
    limit $limit
)

select chunk_seq, pattern_id, action_type, merchant, customer, evidence(made) as evidence
from made
order by detection_id
