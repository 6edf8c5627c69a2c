{{ config(materialized=intermediate_materialization()) }}

with merchants as (
    select *
    from {{ ref('batch_merchants') }}
    where transactions > {{ threshold('upgrade_min_merchant_transactions') }} and customers >= 2
),

activity as (
    select * from {{ ref('batch_merchant_customers') }}
),

ranks as (
    select ranks.*
    from {{ ref('upgrade_ranks') }} as ranks
    inner join merchants on ranks.chunk_seq = merchants.chunk_seq and ranks.merchant = merchants.merchant
    where
        100 * (merchants.customers - 1 - ranks.customers_with_fewer_transactions)
        <= case when merchants.is_last_of_batch then 5 else 1 end
        * {{ threshold('upgrade_top_percent') }} * (merchants.customers - 1)
),

fewest as (
    select
        merchant,
        min(transactions) as transactions
    from ranks
    group by merchant
),

lightest as (
    select lightest.*
    from {{ ref('lightest_customers') }} as lightest
    inner join fewest on lightest.merchant = fewest.merchant and lightest.transactions >= fewest.transactions
),

-- The state already includes the whole batch, so the transactions of later chunks are subtracted.
so_far as (
    select
        merchants.chunk_seq,
        lightest.merchant,
        lightest.customer,
        lightest.importance_version,
        max(lightest.transactions) - coalesce(sum(later.chunk_transactions), 0) as transactions
    from merchants
    inner join lightest
        on merchants.merchant = lightest.merchant
        and merchants.importance_version = lightest.importance_version
        and merchants.chunk_seq >= lightest.first_chunk_seq
    left join activity as later
        on lightest.merchant = later.merchant
        and lightest.customer = later.customer
        and merchants.chunk_seq < later.chunk_seq
    group by merchants.chunk_seq, lightest.merchant, lightest.customer, lightest.importance_version
),

final as (
    select
        so_far.chunk_seq,
        so_far.merchant,
        so_far.customer,
        so_far.importance_version,
        cast(so_far.transactions as bigint) as customer_transactions,
        cast(ranks.customers_with_fewer_transactions as bigint) as customers_with_fewer_transactions
    from so_far
    inner join ranks
        on so_far.chunk_seq = ranks.chunk_seq
        and so_far.merchant = ranks.merchant
        and so_far.transactions = ranks.transactions
)

select * from final
