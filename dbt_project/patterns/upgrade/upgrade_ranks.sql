{{ config(materialized=intermediate_materialization()) }}

with merchants as (
    select *
    from {{ ref('batch_merchants') }}
    where transactions > {{ threshold('upgrade_min_merchant_transactions') }}
),

activity as (
    select *
    from {{ ref('batch_merchant_customers') }}
    where merchant in (select merchant from merchants)
),

state as (
    select *
    from {{ ref('customers_by_transactions') }}
    where customers > 0 and merchant in (select merchant from merchants)
),

-- Rows that add up to a merchant's histogram at the end of a chunk: the histogram at the end of the batch, and the
-- moves of each later chunk taken back. A row counts for the chunks before its `until_chunk_seq`.
moves as (
    select merchant, transactions, cast(null as bigint) as until_chunk_seq, customers
    from state
    union all
    select merchant, transactions, chunk_seq as until_chunk_seq, -count(*) as customers
    from activity
    group by merchant, transactions, chunk_seq
    union all
    select
        merchant,
        transactions - chunk_transactions as transactions_before,
        chunk_seq as until_chunk_seq,
        count(*) as customers
    from activity
    where transactions > chunk_transactions
    group by merchant, transactions - chunk_transactions, chunk_seq
),

customers_by_transactions as (
    select
        merchants.chunk_seq,
        merchants.merchant,
        moves.transactions,
        sum(moves.customers) as customers
    from merchants
    inner join moves
        on merchants.merchant = moves.merchant
        and (moves.until_chunk_seq is null or merchants.chunk_seq < moves.until_chunk_seq)
    group by merchants.chunk_seq, merchants.merchant, moves.transactions
),

final as (
    select
        chunk_seq,
        merchant,
        transactions,
        coalesce(sum(customers) over (
            partition by chunk_seq, merchant
            order by transactions
            rows between unbounded preceding and 1 preceding
        ), 0) as customers_with_fewer_transactions
    from customers_by_transactions
)

select * from final
