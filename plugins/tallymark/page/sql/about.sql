select
    published_at,
    time_zone,
    detection_files,
    merchant_count,
    refusal_count as open_issues,
    (select count(*) from detections) as detections,
    (select count(*) from ledger) as chunks
from current
