with changes as (
    select * from {{ ref('merchant_changes') }}
),

merchants as (
    select * from {{ ref('merchants') }}
),

batch as (
    select * from {{ ref('batch_chunks') }}
),

-- The state already includes the whole batch, so the changes of later chunks are subtracted.
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
            as male_customers,
        row_number() over (partition by changes.merchant order by changes.chunk_seq desc) = 1 as is_last_of_batch
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
