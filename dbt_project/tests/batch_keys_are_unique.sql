with keys as (
    select distinct merchant, customer
    from {{ ref('batch_activity') }}
)

select
    keys.merchant,
    keys.customer,
    count(state.customer) as rows_in_state
from keys
left join {{ ref('merchant_customers') }} as state
    on keys.merchant = state.merchant and keys.customer = state.customer
group by keys.merchant, keys.customer
having count(state.customer) <> 1
