-- At most about 60 points: of a second, a minute, an hour or more, as the time between first and last asks for.
with matching as (
    select detected_at, pattern_id from matching($pattern, $merchant, $customer)
    where detected_at is not null
),

span as (
    select epoch(max(detected_at) - min(detected_at)) / 60 as seconds from matching
),

step as (
    select coalesce(
        (
            select min(wanted)
            from (select unnest([1, 5, 15, 60, 300, 900, 3600, 21600, 86400, 604800, 2592000]) as wanted)
            where wanted >= (select seconds from span)
        ),
        2592000
    ) as seconds
)

select
    time_bucket(to_seconds((select seconds from step)), detected_at) as since,
    (select seconds from step) as step_seconds,
    pattern_id,
    count(*) as detections
from matching
group by since, pattern_id
order by since, pattern_id
