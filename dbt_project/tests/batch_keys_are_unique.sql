with keys as (
    select distinct merchant, customer
    from {{ ref('batch_activity') }}
),

customers as (
    select
        keys.merchant,
        keys.customer,
        count(state.customer) as rows_in_state
    from keys
    left join {{ ref('merchant_customers') }} as state
        on keys.merchant = state.merchant and keys.customer = state.customer
    group by keys.merchant, keys.customer
),

merchants as (
    select
        keys.merchant,
        '' as customer,
        count(state.merchant) as rows_in_state
    from (select distinct merchant from keys) as keys
    left join {{ ref('merchants') }} as state on keys.merchant = state.merchant
    group by keys.merchant
)

select merchant, customer, rows_in_state
from customers
where rows_in_state <> 1
union all
select merchant, customer, rows_in_state
from merchants
where rows_in_state <> 1
