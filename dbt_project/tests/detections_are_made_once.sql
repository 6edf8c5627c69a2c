with detections as (
    select * from {{ ref('batch_detections') }}
),

released as (
    select * from {{ source('released', 'detections') }}
),

repeated as (
    select
        pattern_id,
        customer,
        merchant,
        min(detection_id) as detection_id
    from detections
    group by pattern_id, customer, merchant
    having count(*) > 1
),

released_before as (
    select
        detections.pattern_id,
        detections.customer,
        detections.merchant,
        detections.detection_id
    from detections
    inner join released
        on detections.pattern_id = released.pattern_id
        and detections.customer = released.customer
        and detections.merchant = released.merchant
),

misnumbered as (
    select
        pattern_id,
        customer,
        merchant,
        detection_id
    from (
        select
            *,
            row_number() over (order by chunk_seq, pattern_id, merchant, customer)
            + (select coalesce(max(detection_id), 0) from released) as place
        from detections
    ) as numbered
    where detection_id <> place
)

select 'repeated' as problem, * from repeated
union all
select 'released before' as problem, * from released_before
union all
select 'misnumbered' as problem, * from misnumbered
