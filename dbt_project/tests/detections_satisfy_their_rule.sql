select *
from {{ ref('batch_detections') }}
where not coalesce({{ satisfies_the_rule() }}, false)
