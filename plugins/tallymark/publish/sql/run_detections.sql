with released as (
    select * from detections
    where
        file_number in (select file_number from output.files where file_number is not null and put_at >= $since)
        or (file_number is null and $with_held)
),

held as (
    select * from batch_detections
    where $with_held and chunk_seq > (select coalesce(max(chunk_seq), 0) from output.releases)
),

in_force as (
    select * from chunk_thresholds
    union all by name
    select * from batch_thresholds
    where chunk_seq > (select coalesce(max(chunk_seq), 0) from output.releases)
)

select *
from (select * from released union all by name select * from held) as made
left join in_force using (chunk_seq)
order by detection_id
limit $limit
