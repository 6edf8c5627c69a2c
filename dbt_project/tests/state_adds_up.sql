with ledger as (
    select coalesce(sum(rows_accepted), 0) as transactions
    from {{ source('raw', 'chunks') }}
    where state = 'accepted'
),

merchants as (
    select
        coalesce(sum(transactions), 0) as transactions,
        coalesce(sum(customers), 0) as customers
    from {{ ref('merchants') }}
),

pairs as (
    select count(*) as customers from {{ ref('merchant_customers') }}
),

counted as (
    select
        merchant,
        sum(customers) as customers,
        sum(customers * transactions) as transactions
    from {{ ref('customers_by_transactions') }}
    where merchant in (select merchant from {{ ref('batch_merchants') }})
    group by merchant
)

select
    '' as merchant,
    ledger.transactions as transactions_expected,
    merchants.transactions as transactions_found,
    merchants.customers as customers_expected,
    pairs.customers as customers_found
from ledger
cross join merchants
cross join pairs
where ledger.transactions <> merchants.transactions or merchants.customers <> pairs.customers
union all
select
    merchants.merchant,
    merchants.transactions as transactions_expected,
    counted.transactions as transactions_found,
    merchants.customers as customers_expected,
    counted.customers as customers_found
from counted
inner join {{ ref('merchants') }} as merchants on counted.merchant = merchants.merchant
where counted.transactions <> merchants.transactions or counted.customers <> merchants.customers
