with activity as (
    select * from {{ ref('batch_activity') }}
),

merchant_customers as (
    select * from {{ ref('merchant_customers') }}
),

-- The state holds the whole batch already: what a later chunk of the batch added is taken off again.
final as (
    select
        activity.chunk_seq,
        activity.merchant,
        activity.customer,
        activity.transactions as chunk_transactions,
        merchant_customers.transactions
        - cast(coalesce(sum(activity.transactions) over later, 0) as bigint) as transactions,
        cast(merchant_customers.amount - coalesce(sum(activity.amount) over later, 0) as decimal(28, 4)) as amount,
        activity.chunk_seq = merchant_customers.first_chunk_seq as is_new_customer,
        coalesce(activity.chunk_seq = merchant_customers.first_female_chunk_seq, false) as is_new_female_customer,
        coalesce(activity.chunk_seq = merchant_customers.first_male_chunk_seq, false) as is_new_male_customer
    from activity
    inner join merchant_customers
        on activity.merchant = merchant_customers.merchant
        and activity.customer = merchant_customers.customer
    window later as (
        partition by activity.merchant, activity.customer
        order by activity.chunk_seq
        rows between 1 following and unbounded following
    )
)

select * from final
