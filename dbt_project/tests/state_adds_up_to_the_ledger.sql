with ledger as (
    select coalesce(sum(rows_accepted), 0) as transactions
    from {{ source('raw', 'chunks') }}
    where state = 'accepted'
),

state as (
    select coalesce(sum(transactions), 0) as transactions
    from {{ ref('merchants') }}
)

select
    ledger.transactions as transactions_in_ledger,
    state.transactions as transactions_in_state
from ledger
cross join state
where ledger.transactions <> state.transactions
