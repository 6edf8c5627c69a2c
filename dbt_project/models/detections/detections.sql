{{ config(
    incremental_strategy='append',
    full_refresh=false,
    on_schema_change='append_new_columns',
    pre_hook="{% if is_incremental() %}
        delete from {{ this }}
        where chunk_seq > (select coalesce(max(chunk_seq), 0) from {{ source('output', 'releases') }})
    {% endif %}",
    post_hook="update {{ this }} set detected_at = {{ utc_now() }} where detected_at is null"
) }}

with patterns as (
    {{ union_all_by_name([ref('upgrade'), ref('child'), ref('dei_needed')]) }}
),

batch as (
    select * from {{ ref('batch_chunks') }}
),

numbered as (
    select
        *,
        row_number() over (partition by pattern_id, customer, merchant order by chunk_seq) as occurrence
    from patterns
),

made as (
    select numbered.*
    from numbered
    where
        occurrence = 1
    {% if is_incremental() %}
    and not exists (
        select 1 from {{ this }} as before
        where
            before.pattern_id = numbered.pattern_id
            and before.customer = numbered.customer
            and before.merchant = numbered.merchant
    )
    {% endif %}
),

final as (
    select
        cast(
            row_number() over (order by made.chunk_seq, made.pattern_id, made.merchant, made.customer)
            {% if is_incremental() %}
            + (select coalesce(max(detection_id), 0) from {{ this }})
            {% endif %}
            as bigint
        ) as detection_id,
        batch.y_started_at,
        cast(null as timestamp) as detected_at,
        cast(null as bigint) as file_number,
        made.* exclude (occurrence)
    from made
    inner join batch on made.chunk_seq = batch.chunk_seq
)

select * from final
