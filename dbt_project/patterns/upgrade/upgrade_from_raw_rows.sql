with activity as (
    select
        chunk_seq,
        merchant,
        customer,
        count(*) as transactions
    from {{ source('raw', 'transactions') }}
    group by chunk_seq, merchant, customer
),

merchant_chunks as (
    select
        chunk_seq,
        merchant,
        cast(sum(sum(transactions)) over (
            partition by merchant
            order by chunk_seq
            rows between unbounded preceding and current row
        ) as bigint) as merchant_transactions
    from activity
    group by chunk_seq, merchant
),

large_merchants as (
    select merchant
    from merchant_chunks
    group by merchant
    having max(merchant_transactions) > (
            select min(upgrade_min_merchant_transactions) from {{ source('released', 'chunk_thresholds') }}
        )
),

customers as (
    select merchant, customer, min(chunk_seq) as first_chunk_seq
    from activity
    where merchant in (select merchant from large_merchants)
    group by merchant, customer
),

-- All customers so far, for each chunk with a transaction at the merchant.
so_far as (
    select
        merchant_chunks.chunk_seq,
        merchant_chunks.merchant,
        customers.customer,
        merchant_chunks.merchant_transactions,
        cast(sum(coalesce(activity.transactions, 0)) over (
            partition by customers.merchant, customers.customer
            order by merchant_chunks.chunk_seq
            rows between unbounded preceding and current row
        ) as bigint) as customer_transactions
    from merchant_chunks
    inner join customers
        on merchant_chunks.merchant = customers.merchant
        and merchant_chunks.chunk_seq >= customers.first_chunk_seq
    left join activity
        on merchant_chunks.chunk_seq = activity.chunk_seq
        and customers.merchant = activity.merchant
        and customers.customer = activity.customer
),

weights as (
    select
        importance_version,
        merchant,
        customer,
        count(*) as importance_rows,
        sum(weight) as sum_weight,
        min(weight) as min_weight,
        max(weight) as max_weight
    from {{ source('raw', 'customer_importance') }}
    where merchant in (select merchant from large_merchants)
    group by importance_version, merchant, customer
),

weighted as (
    select
        so_far.*,
        thresholds.upgrade_top_percent,
        thresholds.upgrade_bottom_percent,
        weights.importance_version,
        case thresholds.upgrade_weight_aggregate
            when 'sum' then weights.sum_weight
            when 'min' then weights.min_weight
            when 'max' then weights.max_weight
            else {{ exact_average('weights.sum_weight', 'weights.importance_rows') }}
        end as weight,
        {{ weight_sort_keys_by('thresholds.upgrade_weight_aggregate', 'weights') }}
    from so_far
    inner join {{ source('raw', 'chunks') }} as ledger on so_far.chunk_seq = ledger.chunk_seq
    inner join {{ source('released', 'chunk_thresholds') }} as thresholds on so_far.chunk_seq = thresholds.chunk_seq
    left join weights
        on ledger.importance_version = weights.importance_version
        and so_far.merchant = weights.merchant
        and so_far.customer = weights.customer
    where so_far.merchant_transactions > thresholds.upgrade_min_merchant_transactions
),

ranked as (
    select
        *,
        count(*) over (partition by chunk_seq, merchant) as merchant_customers,
        rank() over (partition by chunk_seq, merchant order by customer_transactions) - 1
            as customers_with_fewer_transactions,
        count(weight) over (partition by chunk_seq, merchant) as customers_with_weight,
        rank() over (
            partition by chunk_seq, merchant
            order by weight_key nulls last, weight_key_remainder
        ) - 1 as customers_with_smaller_weight
    from weighted
),

final as (
    select * from ranked
    where
        weight is not null
        and merchant_customers >= 2
        and 100 * customers_with_fewer_transactions >= (100 - upgrade_top_percent) * (merchant_customers - 1)
        and 100 * customers_with_smaller_weight <= upgrade_bottom_percent * (customers_with_weight - 1)
)

select * from final
