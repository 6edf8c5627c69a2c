with transactions as (
    select * from {{ ref('stg_transactions') }}
),

final as (
    {{ activity_of('transactions') }}
)

select * from final
