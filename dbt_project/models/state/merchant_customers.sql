{{ config(materialized='incremental', incremental_strategy=upsert_strategy(), unique_key=['merchant', 'customer']) }}
-- depends_on: {{ ref('batch_activity') }}

with activity as (
    {% if is_incremental() %}
    select * from {{ ref('batch_activity') }}
    where chunk_seq > (select coalesce(max(last_chunk_seq), 0) from {{ this }})
    {% else %}
    select * from {{ ref('stg_activity') }}
    {% endif %}
),

parts as (
    select
        merchant,
        customer,
        transactions,
        amount,
        chunk_seq as first_chunk_seq,
        case when is_female then chunk_seq end as first_female_chunk_seq,
        case when is_male then chunk_seq end as first_male_chunk_seq,
        chunk_seq as last_chunk_seq
    from activity
    {% if is_incremental() %}
    union all
    select
        before.merchant,
        before.customer,
        before.transactions,
        before.amount,
        before.first_chunk_seq,
        before.first_female_chunk_seq,
        before.first_male_chunk_seq,
        before.last_chunk_seq
    from {{ this }} as before
    where exists (
            select 1 from activity
            where activity.merchant = before.merchant and activity.customer = before.customer
        )
    {% endif %}
),

final as (
    select
        merchant,
        customer,
        cast(sum(transactions) as bigint) as transactions,
        cast(sum(amount) as decimal(28, 4)) as amount,
        min(first_chunk_seq) as first_chunk_seq,
        min(first_female_chunk_seq) as first_female_chunk_seq,
        min(first_male_chunk_seq) as first_male_chunk_seq,
        max(last_chunk_seq) as last_chunk_seq
    from parts
    group by merchant, customer
)

select * from final
