create or replace temp table detections_rows as
select *
from detections
left join chunk_thresholds using (chunk_seq)
where detection_id > $first and detection_id <= $last
order by detection_id
