{{ config(
    post_hook=[
        "{{ keep_columns(this, source('released', 'detections')) }}",
        "update {{ this }} set detected_at = {{ utc_now() }}",
    ]
) }}

with candidates as (
    select * from {{ ref('batch_candidates') }}
    where is_met
),

batch as (
    select * from {{ ref('batch_chunks') }}
    where chunk_seq > {{ last_released_chunk() }}
),

released as (
    select * from {{ all_rows_of(source('released', 'detections')) }}
),

numbered as (
    select
        candidates.*,
        batch.y_started_at,
        row_number() over (
            partition by candidates.pattern_id, candidates.customer, candidates.merchant
            order by candidates.chunk_seq
        ) as occurrence
    from candidates
    inner join batch on candidates.chunk_seq = batch.chunk_seq
),

made as (
    select numbered.*
    from numbered
    where
        occurrence = 1
        and not exists (
            select 1 from released
            where
                released.pattern_id = numbered.pattern_id
                and released.customer = numbered.customer
                and released.merchant = numbered.merchant
        )
),

final as (
    select
        cast(
            row_number() over (order by chunk_seq, pattern_id, merchant, customer)
            + (select coalesce(max(detection_id), 0) from released)
            as bigint
        ) as detection_id,
        y_started_at,
        cast(null as timestamp) as detected_at,
        made.* exclude (y_started_at, occurrence, is_met, is_last_of_batch, distance)
    from made
)

select * from final
