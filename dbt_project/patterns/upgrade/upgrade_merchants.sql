{{ config(materialized='ephemeral') }}

with versions as (
    select distinct importance_version
    from {{ ref('stg_chunks') }}
    where chunk_seq >= {{ last_released_chunk() }} and importance_version is not null
),

final as (
    select
        versions.importance_version,
        merchants.merchant
    from {{ ref('merchants') }} as merchants
    cross join versions
    where merchants.transactions > {{ threshold('upgrade_min_merchant_transactions') }}
)

select * from final
