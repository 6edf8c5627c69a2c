{{ config(materialized='table') }}

with known as (
    select state.*
    from {{ lightest_customers_before_the_batch() }} as state
    inner join {{ ref('upgrade_merchants') }} as merchants
        on state.importance_version = merchants.importance_version and state.merchant = merchants.merchant
    where state.weight_aggregate = {{ threshold('upgrade_weight_aggregate') }}
),

activity as (
    select * from {{ ref('batch_merchant_customers') }}
    where is_last_of_batch
),

newcomers as (
    select * from {{ ref('batch_newcomers') }}
    where
        first_chunk_seq > (
            select max(state.last_chunk_seq) from {{ lightest_customers_before_the_batch() }} as state
        )
),

sets as (
    select
        importance_version,
        merchant,
        max(customers_with_weight) as customers_with_weight,
        max(heaviest_key) as heaviest_key,
        max(heaviest_key_remainder) as heaviest_key_remainder,
        max(is_complete) as is_complete,
        count(case when first_chunk_seq <= {{ last_released_chunk() }} then 1 end) as customers_before
    from known
    group by importance_version, merchant
),

added as (
    select
        importance_version,
        merchant,
        count(*) as customers
    from newcomers
    group by importance_version, merchant
),

grown as (
    select
        sets.*,
        sets.customers_with_weight + coalesce(added.customers, 0) as customers_with_weight_now
    from sets
    left join added on sets.importance_version = added.importance_version and sets.merchant = added.merchant
),

-- Sets that are larger than the bottom percent at every chunk of the batch.
sufficient as (
    select * from grown
    where
        is_complete
        or 100 * customers_before > {{ threshold('upgrade_bottom_percent') }} * (customers_with_weight_now - 1)
),

final as (
    select
        known.importance_version,
        known.merchant,
        known.customer,
        coalesce(activity.transactions, known.transactions) as transactions,
        known.first_chunk_seq,
        known.weight,
        known.weight_key,
        known.weight_key_remainder,
        sufficient.customers_with_weight_now as customers_with_weight
    from known
    inner join sufficient
        on known.importance_version = sufficient.importance_version and known.merchant = sufficient.merchant
    left join activity
        on known.merchant = activity.merchant
        and known.customer = activity.customer
        and known.last_chunk_seq < activity.chunk_seq
    union all
    select
        newcomers.importance_version,
        newcomers.merchant,
        newcomers.customer,
        newcomers.transactions,
        newcomers.first_chunk_seq,
        newcomers.weight,
        newcomers.weight_key,
        newcomers.weight_key_remainder,
        sufficient.customers_with_weight_now as customers_with_weight
    from newcomers
    inner join sufficient
        on newcomers.importance_version = sufficient.importance_version and newcomers.merchant = sufficient.merchant
    where
        sufficient.is_complete
        or newcomers.weight_key < sufficient.heaviest_key
        or (
            newcomers.weight_key = sufficient.heaviest_key
            and newcomers.weight_key_remainder <= sufficient.heaviest_key_remainder
        )
)

select * from final
