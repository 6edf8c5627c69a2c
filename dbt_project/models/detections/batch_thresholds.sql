{{ config(post_hook="{{ keep_columns(this, source('released', 'chunk_thresholds')) }}") }}

with batch as (
    select * from {{ ref('batch_chunks') }}
    where chunk_seq > {{ last_released_chunk() }}
),

final as (
    select
        chunk_seq,
        {{ threshold('upgrade_min_merchant_transactions') }} as upgrade_min_merchant_transactions,
        {{ threshold('upgrade_top_percent') }} as upgrade_top_percent,
        {{ threshold('upgrade_bottom_percent') }} as upgrade_bottom_percent,
        '{{ weight_aggregate() }}' as upgrade_weight_aggregate,
        {{ threshold('child_max_average_amount') }} as child_max_average_amount,
        {{ threshold('child_min_transactions') }} as child_min_transactions,
        {{ threshold('dei_min_female_customers') }} as dei_min_female_customers
    from batch
)

select * from final
