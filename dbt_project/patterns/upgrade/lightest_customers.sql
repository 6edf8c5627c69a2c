{{ config(materialized='incremental', incremental_strategy=replace_all_strategy(), schema=none) }}

with merchants as (
    select * from {{ ref('upgrade_merchants') }}
),

so_far as (
    select * from {{ ref('lightest_so_far') }}
),

lacking as (
    select merchants.*
    from merchants
    where not exists (
            select 1 from so_far
            where so_far.importance_version = merchants.importance_version and so_far.merchant = merchants.merchant
        )
),

-- State and weights are read only for merchants that need a new set.
customers as (
    select * from {{ ref('merchant_customers') }}
    where merchant in (select merchant from lacking)
),

weights as (
    select weights.*
    from {{ ref('customer_weights') }} as weights
    inner join lacking
        on weights.importance_version = lacking.importance_version and weights.merchant = lacking.merchant
),

recounted as (
    select
        weights.importance_version,
        weights.merchant,
        weights.customer,
        customers.transactions,
        customers.first_chunk_seq,
        {{ weight() }} as weight,
        {{ weight_sort_keys() }},
        count(*) over (partition by weights.importance_version, weights.merchant) as customers_with_weight
    from weights
    inner join customers on weights.merchant = customers.merchant and weights.customer = customers.customer
),

candidates as (
    select * from so_far
    where customer is not null
    union all
    select * from recounted
),

ranked as (
    select
        *,
        rank() over (
            partition by importance_version, merchant
            order by weight_key, weight_key_remainder
        ) - 1 as customers_with_smaller_weight,
        sum(case when first_chunk_seq > {{ last_released_chunk() }} then 1 else 0 end) over (
            partition by importance_version, merchant
        ) as newcomers
    from candidates
),

-- Twice as many as the bottom percent needs now, so that a set is rarely recounted. Newcomers are not counted here: at
-- an earlier chunk of the batch, some of them are not customers yet, and the set must suffice without them.
kept as (
    select * from ranked
    where
        100 * (customers_with_smaller_weight - newcomers)
        <= greatest(
            100 * {{ keep_at_least() }},
            2 * {{ threshold('upgrade_bottom_percent') }} * (customers_with_weight - 1)
        )
),

state_mark as (
    select max(last_chunk_seq) as chunk_seq from {{ ref('merchants') }}
),

final as (
    select
        merchants.importance_version,
        merchants.merchant,
        kept.customer,
        kept.transactions,
        kept.first_chunk_seq,
        kept.weight,
        kept.weight_key,
        kept.weight_key_remainder,
        kept.customers_with_smaller_weight,
        coalesce(kept.customers_with_weight, 0) as customers_with_weight,
        count(kept.customer) over merchant_set = coalesce(kept.customers_with_weight, 0) as is_complete,
        first_value(kept.weight_key) over heaviest_first as heaviest_key,
        first_value(kept.weight_key_remainder) over heaviest_first as heaviest_key_remainder,
        {{ threshold('upgrade_weight_aggregate') }} as weight_aggregate,
        state_mark.chunk_seq as last_chunk_seq
    from merchants
    cross join state_mark
    left join kept
        on merchants.importance_version = kept.importance_version and merchants.merchant = kept.merchant
    window
        merchant_set as (partition by merchants.importance_version, merchants.merchant),
        heaviest_first as (
            partition by merchants.importance_version, merchants.merchant
            order by kept.weight_key desc nulls last, kept.weight_key_remainder desc nulls last
        )
)

select * from final
