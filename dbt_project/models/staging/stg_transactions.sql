with transactions as (
    select * from {{ source('raw', 'transactions') }}
),

final as (
    select
        chunk_seq,
        merchant,
        customer,
        amount,
        coalesce(upper(trim(gender)) = 'F', false) as is_female,
        coalesce(upper(trim(gender)) = 'M', false) as is_male
    from transactions
)

select * from final
