with activity as (
    select
        chunk_seq,
        merchant,
        customer,
        count(*) as transactions,
        sum(amount) as amount
    from {{ source('raw', 'transactions') }}
    group by chunk_seq, merchant, customer
),

so_far as (
    select
        chunk_seq,
        merchant,
        customer,
        cast(sum(transactions) over up_to_the_chunk as bigint) as customer_transactions,
        cast(sum(amount) over up_to_the_chunk as decimal(28, 4)) as customer_amount
    from activity
    window up_to_the_chunk as (
        partition by merchant, customer
        order by chunk_seq
        rows between unbounded preceding and current row
    )
),

final as (
    select so_far.*
    from so_far
    inner join {{ source('released', 'chunk_thresholds') }} as thresholds on so_far.chunk_seq = thresholds.chunk_seq
    where
        customer_transactions >= thresholds.child_min_transactions
        and customer_amount < thresholds.child_max_average_amount * customer_transactions
)

select * from final
