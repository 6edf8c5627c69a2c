with merchants as (
    select *
    from {{ ref('batch_merchants') }}
    where transactions > {{ threshold('upgrade_min_merchant_transactions') }}
),

customers as (
    select *
    from {{ ref('merchant_customers') }}
    where merchant in (select merchant from merchants)
),

weights as (
    select
        importance_version,
        merchant,
        customer,
        {{ weight() }} as weight,
        {{ weight_sort_keys() }}
    from {{ ref('customer_weights') }}
    where
        importance_version in (select importance_version from merchants)
        and merchant in (select merchant from merchants)
),

first_chunks as (
    select merchant, min(chunk_seq) as chunk_seq
    from merchants
    group by merchant
),

weighted_customers as (
    select
        customers.merchant,
        customers.customer,
        customers.transactions,
        customers.first_chunk_seq,
        customers.first_chunk_seq > first_chunks.chunk_seq as is_newcomer,
        weights.importance_version,
        weights.weight,
        weights.weight_key,
        weights.weight_key_remainder
    from customers
    inner join weights on customers.merchant = weights.merchant and customers.customer = weights.customer
    inner join first_chunks on customers.merchant = first_chunks.merchant
),

-- At the end of the batch. As of a chunk before it, some of the batch's newcomers were not there yet.
ranked_at_end as (
    select
        *,
        rank() over (
            partition by merchant, importance_version
            order by weight_key, weight_key_remainder
        ) - 1 as smaller_at_end,
        count(*) over (partition by merchant, importance_version) as weighted_at_end,
        sum(case when is_newcomer then 1 else 0 end) over (partition by merchant, importance_version) as newcomers
    from weighted_customers
),

-- Only these can be in the bottom percent at any chunk of the batch: whoever has a smaller weight than one
-- of them is one of them, so ranks among them are ranks among all.
bottom_candidates as (
    select * from ranked_at_end
    where 100 * (smaller_at_end - newcomers) <= {{ threshold('upgrade_bottom_percent') }} * (weighted_at_end - 1)
),

weighted_by_chunk as (
    select
        merchants.chunk_seq,
        merchants.merchant,
        count(newcomers.customer) as newcomers_to_come
    from merchants
    left join weighted_customers as newcomers
        on merchants.merchant = newcomers.merchant
        and merchants.importance_version = newcomers.importance_version
        and newcomers.is_newcomer
        and newcomers.first_chunk_seq > merchants.chunk_seq
    group by merchants.chunk_seq, merchants.merchant
),

ranked_by_weight as (
    select
        merchants.chunk_seq,
        merchants.merchant,
        merchants.transactions as merchant_transactions,
        merchants.customers as merchant_customers,
        merchants.importance_version,
        candidates.customer,
        candidates.transactions as transactions_at_end,
        candidates.weight,
        candidates.weighted_at_end - weighted_by_chunk.newcomers_to_come as customers_with_weight,
        rank() over (
            partition by merchants.chunk_seq, merchants.merchant
            order by candidates.weight_key, candidates.weight_key_remainder
        ) - 1 as customers_with_smaller_weight
    from merchants
    inner join bottom_candidates as candidates
        on merchants.merchant = candidates.merchant
        and merchants.importance_version = candidates.importance_version
        and merchants.chunk_seq >= candidates.first_chunk_seq
    inner join weighted_by_chunk
        on merchants.chunk_seq = weighted_by_chunk.chunk_seq
        and merchants.merchant = weighted_by_chunk.merchant
),

final as (
    select * from ranked_by_weight
    where
        100 * customers_with_smaller_weight
        <= {{ threshold('upgrade_bottom_percent') }} * (customers_with_weight - 1)
)

select * from final
