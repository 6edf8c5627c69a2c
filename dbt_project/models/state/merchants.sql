{{ config(materialized='incremental', incremental_strategy=upsert_strategy(), unique_key='merchant') }}
-- depends_on: {{ ref('batch_activity') }}

with merchant_customers as (
    select * from {{ ref('merchant_customers') }}
    {% if is_incremental() %}
    where merchant in (select merchant from {{ ref('batch_activity') }})
    {% endif %}
),

final as (
    select
        merchant,
        cast(sum(transactions) as bigint) as transactions,
        cast(sum(amount) as decimal(28, 4)) as amount,
        count(*) as customers,
        count(first_female_chunk_seq) as female_customers,
        count(first_male_chunk_seq) as male_customers,
        max(last_chunk_seq) as last_chunk_seq
    from merchant_customers
    group by merchant
)

select * from final
