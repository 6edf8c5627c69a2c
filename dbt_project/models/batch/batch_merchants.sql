with merchant_customers as (
    select * from {{ ref('batch_merchant_customers') }}
),

merchants as (
    select * from {{ ref('merchants') }}
),

batch as (
    select * from {{ ref('batch_chunks') }}
),

changes as (
    select
        chunk_seq,
        merchant,
        sum(chunk_transactions) as transactions,
        sum(case when is_new_customer then 1 else 0 end) as customers,
        sum(case when is_new_female_customer then 1 else 0 end) as female_customers,
        sum(case when is_new_male_customer then 1 else 0 end) as male_customers
    from merchant_customers
    group by chunk_seq, merchant
),

-- As in batch_merchant_customers: state at the end of the batch without what came later.
final as (
    select
        changes.chunk_seq,
        changes.merchant,
        batch.importance_version,
        cast(merchants.transactions - coalesce(sum(changes.transactions) over later, 0) as bigint) as transactions,
        cast(merchants.customers - coalesce(sum(changes.customers) over later, 0) as bigint) as customers,
        cast(merchants.female_customers - coalesce(sum(changes.female_customers) over later, 0) as bigint)
            as female_customers,
        cast(merchants.male_customers - coalesce(sum(changes.male_customers) over later, 0) as bigint)
            as male_customers
    from changes
    inner join merchants on changes.merchant = merchants.merchant
    inner join batch on changes.chunk_seq = batch.chunk_seq
    window later as (
        partition by changes.merchant
        order by changes.chunk_seq
        rows between 1 following and unbounded following
    )
)

select * from final
