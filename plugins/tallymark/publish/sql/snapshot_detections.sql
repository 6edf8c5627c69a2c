create or replace temp table detections_rows as
select * from detections
where detection_id > $first and detection_id <= $last
order by detection_id
