{{ config(
    post_hook=[
        "{{ keep_columns(this, source('released', 'detections')) }}",
        "update {{ this }} set detected_at = {{ utc_now() }}",
    ]
) }}

with patterns as (
    {{ union_all_by_name([ref('upgrade'), ref('child'), ref('dei_needed')]) }}
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
        patterns.*,
        batch.y_started_at,
        row_number() over (
            partition by patterns.pattern_id, patterns.customer, patterns.merchant
            order by patterns.chunk_seq
        ) as occurrence
    from patterns
    inner join batch on patterns.chunk_seq = batch.chunk_seq
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
        {{ all_columns_except('made', ['y_started_at', 'occurrence']) }}
    from made
)

select * from final
