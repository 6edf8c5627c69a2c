{{ config(tags=['pattern']) }}

with candidates as (
    select * from {{ ref('upgrade_candidates') }}
),

merchants as (
    select * from {{ ref('batch_merchants') }}
),

lightest as (
    select * from {{ ref('lightest_customers') }}
),

weighted as (
    select
        candidates.*,
        lightest.weight,
        lightest.weight_key,
        lightest.weight_key_remainder,
        lightest.customers_with_weight,
        lightest.customers_with_smaller_weight
    from candidates
    inner join lightest
        on candidates.importance_version = lightest.importance_version
        and candidates.merchant = lightest.merchant
        and candidates.customer = lightest.customer
),

looked_at as (
    select distinct chunk_seq, merchant, importance_version
    from candidates
),

-- Weights are ranked as of the end of the batch. As of a chunk before it, its later newcomers were not there yet.
later_newcomers as (
    select
        looked_at.chunk_seq,
        looked_at.merchant,
        count(newcomers.customer) as customers
    from looked_at
    left join {{ ref('batch_newcomers') }} as newcomers
        on looked_at.importance_version = newcomers.importance_version
        and looked_at.merchant = newcomers.merchant
        and looked_at.chunk_seq < newcomers.first_chunk_seq
    group by looked_at.chunk_seq, looked_at.merchant
),

by_weight as (
    select chunk_seq, merchant, customer, weight_key, weight_key_remainder, 0 as later_newcomers
    from weighted
    union all
    select
        looked_at.chunk_seq,
        looked_at.merchant,
        null as customer,
        lightest.weight_key,
        lightest.weight_key_remainder,
        1 as later_newcomers
    from looked_at
    inner join lightest
        on looked_at.importance_version = lightest.importance_version
        and looked_at.merchant = lightest.merchant
        and looked_at.chunk_seq < lightest.first_chunk_seq
),

lighter_newcomers as (
    select
        chunk_seq,
        merchant,
        customer,
        sum(later_newcomers) over (partition by chunk_seq, merchant order by weight_key, weight_key_remainder)
        - sum(later_newcomers) over (partition by chunk_seq, merchant, weight_key, weight_key_remainder)
            as customers
    from by_weight
),

ranked as (
    select
        weighted.*,
        cast(weighted.customers_with_weight - later_newcomers.customers as bigint) as customers_with_weight_then,
        cast(weighted.customers_with_smaller_weight - lighter_newcomers.customers as bigint)
            as customers_with_smaller_weight_then
    from weighted
    inner join later_newcomers
        on weighted.chunk_seq = later_newcomers.chunk_seq and weighted.merchant = later_newcomers.merchant
    inner join lighter_newcomers
        on weighted.chunk_seq = lighter_newcomers.chunk_seq
        and weighted.merchant = lighter_newcomers.merchant
        and weighted.customer = lighter_newcomers.customer
),

final as (
    select
        'PatId1' as pattern_id,
        'UPGRADE' as action_type,
        ranked.chunk_seq,
        ranked.merchant,
        ranked.customer,
        ranked.customer_transactions,
        merchants.transactions as merchant_transactions,
        merchants.customers as merchant_customers,
        ranked.customers_with_fewer_transactions,
        ranked.weight,
        ranked.customers_with_weight_then as customers_with_weight,
        ranked.customers_with_smaller_weight_then as customers_with_smaller_weight,
        ranked.importance_version,
        {{ thresholds_in_force([
            'upgrade_min_merchant_transactions', 'upgrade_top_percent', 'upgrade_bottom_percent',
            'upgrade_weight_aggregate',
        ]) }} as thresholds
    from ranked
    inner join merchants on ranked.chunk_seq = merchants.chunk_seq and ranked.merchant = merchants.merchant
    where
        100 * ranked.customers_with_smaller_weight_then
        <= {{ threshold('upgrade_bottom_percent') }} * (ranked.customers_with_weight_then - 1)
)

select * from final
