select
    pattern_id,
    action_type,
    count(*) as detections
from detections
group by pattern_id, action_type
order by pattern_id, action_type
