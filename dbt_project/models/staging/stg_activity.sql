with transactions as (
    select * from {{ ref('stg_transactions') }}
),

final as (
    select
        chunk_seq,
        merchant,
        customer,
        cast(count(*) as bigint) as transactions,
        sum(amount) as amount,
        max(is_female) as is_female,
        max(is_male) as is_male
    from transactions
    group by chunk_seq, merchant, customer
)

select * from final
