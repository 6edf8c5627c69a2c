-- The detections in the files that a run put, and for a dry run those that are not exported yet. One row per detection,
-- with the thresholds of its chunk.
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

thresholds as (
    select * from chunk_thresholds
    union all by name
    select * from batch_thresholds
    where chunk_seq > (select coalesce(max(chunk_seq), 0) from output.releases)
)

select *
from (select * from released union all by name select * from held) as shown
left join thresholds using (chunk_seq)
order by detection_id
limit $limit
