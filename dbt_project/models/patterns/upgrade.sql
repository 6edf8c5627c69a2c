{{ config(tags=['pattern']) }}

with bottom as (
    select * from {{ ref('upgrade_bottom') }}
),

ranks as (
    select * from {{ ref('upgrade_ranks') }}
),

activity as (
    select * from {{ ref('batch_merchant_customers') }}
),

-- The state holds the whole batch already: what a later chunk of the batch added is taken off again.
transactions_so_far as (
    select
        bottom.chunk_seq,
        bottom.merchant,
        bottom.customer,
        max(bottom.transactions_at_end) - coalesce(sum(later.chunk_transactions), 0) as customer_transactions
    from bottom
    left join activity as later
        on bottom.merchant = later.merchant
        and bottom.customer = later.customer
        and bottom.chunk_seq < later.chunk_seq
    group by bottom.chunk_seq, bottom.merchant, bottom.customer
),

final as (
    select
        'PatId1' as pattern_id,
        'UPGRADE' as action_type,
        bottom.chunk_seq,
        bottom.merchant,
        bottom.customer,
        cast(transactions_so_far.customer_transactions as bigint) as customer_transactions,
        bottom.merchant_transactions,
        bottom.merchant_customers,
        cast(ranks.customers_with_fewer_transactions as bigint) as customers_with_fewer_transactions,
        bottom.weight,
        cast(bottom.customers_with_weight as bigint) as customers_with_weight,
        cast(bottom.customers_with_smaller_weight as bigint) as customers_with_smaller_weight,
        bottom.importance_version,
        {{ thresholds_in_force([
            'upgrade_min_merchant_transactions', 'upgrade_top_percent', 'upgrade_bottom_percent',
            'upgrade_weight_aggregate',
        ]) }} as thresholds
    from bottom
    inner join transactions_so_far
        on bottom.chunk_seq = transactions_so_far.chunk_seq
        and bottom.merchant = transactions_so_far.merchant
        and bottom.customer = transactions_so_far.customer
    inner join ranks
        on bottom.chunk_seq = ranks.chunk_seq
        and bottom.merchant = ranks.merchant
        and transactions_so_far.customer_transactions = ranks.transactions
    where
        bottom.merchant_customers >= 2
        and 100 * ranks.customers_with_fewer_transactions
        >= (100 - {{ threshold('upgrade_top_percent') }}) * (bottom.merchant_customers - 1)
)

select * from final
