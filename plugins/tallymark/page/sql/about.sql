select
    published_at,
    time_zone,
    detection_files,
    merchant_count,
    refusal_count as to_put_right,
    (select count(*) from detections) as detections,
    (select count(*) from ledger) as chunks
from current
