{{ config(materialized='incremental', incremental_strategy=upsert_strategy(), unique_key='merchant') }}
-- depends_on: {{ ref('merchant_changes') }}, {{ ref('merchant_customers') }}

{% if is_incremental() %}
with changes as (
    select * from {{ ref('merchant_changes') }}
    where chunk_seq > (select coalesce(max(last_chunk_seq), 0) from {{ this }})
),

added as (
    select
        merchant,
        sum(transactions) as transactions,
        sum(amount) as amount,
        sum(customers) as customers,
        sum(female_customers) as female_customers,
        sum(male_customers) as male_customers,
        max(chunk_seq) as last_chunk_seq
    from changes
    group by merchant
),

final as (
    select
        added.merchant,
        cast(coalesce(state.transactions, 0) + added.transactions as bigint) as transactions,
        cast(coalesce(state.amount, 0) + added.amount as decimal(28, 4)) as amount,
        cast(coalesce(state.customers, 0) + added.customers as bigint) as customers,
        cast(coalesce(state.female_customers, 0) + added.female_customers as bigint) as female_customers,
        cast(coalesce(state.male_customers, 0) + added.male_customers as bigint) as male_customers,
        added.last_chunk_seq
    from added
    left join {{ this }} as state on added.merchant = state.merchant
)
{% else %}
with final as (
    select
        merchant,
        cast(sum(transactions) as bigint) as transactions,
        cast(sum(amount) as decimal(28, 4)) as amount,
        count(*) as customers,
        count(first_female_chunk_seq) as female_customers,
        count(first_male_chunk_seq) as male_customers,
        max(last_chunk_seq) as last_chunk_seq
    from {{ ref('merchant_customers') }}
    group by merchant
)
{% endif %}

select * from final
