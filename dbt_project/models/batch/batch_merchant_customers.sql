with batch as (
    select * from {{ ref('batch_chunks') }}
),

-- Filtered to the batch first, because DuckDB would otherwise group all raw rows. The condition on the last released
-- chunk lets Spark skip files.
transactions as (
    select transactions.*
    from {{ ref('stg_transactions') }} as transactions
    inner join batch on transactions.chunk_seq = batch.chunk_seq
    where transactions.chunk_seq > {{ last_released_chunk() }}
),

activity as (
    {{ activity_of('transactions') }}
),

pairs as (
    select distinct merchant, customer
    from activity
),

-- The only lookup of a batch in the state. Later models read its result.
known as (
    select state.*
    from {{ merchant_customers_before_the_batch() }} as state
    inner join pairs on state.merchant = pairs.merchant and state.customer = pairs.customer
),

-- An interrupted build may already have added the first chunks of the batch to the state.
state_mark as (
    select coalesce(max(state.last_chunk_seq), 0) as chunk_seq
    from {{ merchant_customers_before_the_batch() }} as state
),

added as (
    select
        activity.*,
        known.first_chunk_seq,
        known.first_female_chunk_seq,
        known.first_male_chunk_seq,
        coalesce(known.transactions, 0) - sum(
            case when activity.chunk_seq <= state_mark.chunk_seq then activity.transactions else 0 end
        ) over pair as transactions_before,
        coalesce(known.amount, 0) - sum(
            case when activity.chunk_seq <= state_mark.chunk_seq then activity.amount else 0 end
        ) over pair as amount_before
    from activity
    cross join state_mark
    left join known on activity.merchant = known.merchant and activity.customer = known.customer
    window pair as (partition by activity.merchant, activity.customer)
),

final as (
    select
        chunk_seq,
        merchant,
        customer,
        transactions as chunk_transactions,
        amount as chunk_amount,
        cast(transactions_before + sum(transactions) over so_far as bigint) as transactions,
        cast(amount_before + sum(amount) over so_far as decimal(28, 4)) as amount,
        coalesce(first_chunk_seq, min(chunk_seq) over pair) as first_chunk_seq,
        coalesce(first_female_chunk_seq, min(case when is_female then chunk_seq end) over pair)
            as first_female_chunk_seq,
        coalesce(first_male_chunk_seq, min(case when is_male then chunk_seq end) over pair) as first_male_chunk_seq,
        row_number() over (partition by merchant, customer order by chunk_seq desc) = 1 as is_last_of_batch
    from added
    window
        pair as (partition by merchant, customer),
        so_far as (partition by merchant, customer order by chunk_seq rows unbounded preceding)
)

select * from final
