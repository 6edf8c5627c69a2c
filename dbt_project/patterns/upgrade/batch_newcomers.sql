{{ config(materialized='table') }}

with newcomers as (
    select * from {{ ref('batch_merchant_customers') }}
    where is_last_of_batch and first_chunk_seq > {{ last_released_chunk() }}
),

final as (
    select
        weights.importance_version,
        weights.merchant,
        weights.customer,
        newcomers.transactions,
        newcomers.first_chunk_seq,
        {{ weight() }} as weight,
        {{ weight_sort_keys() }}
    from newcomers
    inner join {{ ref('upgrade_merchants') }} as merchants on newcomers.merchant = merchants.merchant
    inner join {{ ref('customer_weights') }} as weights
        on merchants.importance_version = weights.importance_version
        and newcomers.merchant = weights.merchant
        and newcomers.customer = weights.customer
)

select * from final
