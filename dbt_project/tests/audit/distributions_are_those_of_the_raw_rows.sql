with recomputed as (
    select
        merchant,
        transactions,
        count(*) as customers
    from (
        select merchant, customer, count(*) as transactions
        from {{ source('raw', 'transactions') }}
        where chunk_seq <= {{ last_chunk_in_state() }}
        group by merchant, customer
    ) as pairs
    group by merchant, transactions
),

kept as (
    select merchant, transactions, customers
    from {{ ref('customers_by_transactions') }}
    where customers <> 0
)

{{ differences('kept', 'recomputed') }}
