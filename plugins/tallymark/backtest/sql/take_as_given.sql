-- Replaces the detections of the build with those of the stream, without their evidence, which nothing reads.
delete from batch_detections;

insert into batch_detections by name
select detection_id, y_started_at, detected_at, pattern_id, action_type, chunk_seq, merchant, customer
from read_parquet($path)
