-- What the stream detected in place of what the build did; its evidence is not needed.
delete from batch_detections;

insert into batch_detections by name
select detection_id, y_started_at, detected_at, pattern_id, action_type, chunk_seq, merchant, customer
from read_parquet($path)
