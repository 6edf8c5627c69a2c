with released as (
    select coalesce(max(chunk_seq), 0) as chunk_seq
    from {{ source('output', 'releases') }}
),

detections as (
    select
        *,
        chunk_seq > (select chunk_seq from released) as is_new
    from {{ ref('detections') }}
),

repeated as (
    select
        pattern_id,
        customer,
        merchant,
        min(detection_id) as detection_id
    from detections
    group by pattern_id, customer, merchant
    having count(*) > 1 and max(is_new)
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
            lag(detection_id, 1, 0) over (order by detection_id) as detection_id_before,
            row_number() over (order by chunk_seq, pattern_id, merchant, customer) as place
        from detections
    ) as numbered
    where is_new and (detection_id <> detection_id_before + 1 or detection_id <> place)
)

select 'repeated' as problem, * from repeated
union all
select 'misnumbered' as problem, * from misnumbered
