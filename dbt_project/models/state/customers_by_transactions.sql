{{ config(
    materialized='incremental',
    incremental_strategy=upsert_strategy(),
    unique_key=['merchant', 'transactions'],
) }}
-- depends_on: {{ ref('batch_merchant_customers') }}, {{ ref('merchant_customers') }}

{% if is_incremental() %}
with activity as (
    select * from {{ ref('batch_merchant_customers') }}
    where chunk_seq > (select coalesce(max(last_chunk_seq), 0) from {{ this }})
),

moves as (
    select
        chunk_seq,
        merchant,
        transactions,
        1 as customers
    from activity
    union all
    select
        chunk_seq,
        merchant,
        transactions - chunk_transactions as transactions,
        -1 as customers
    from activity
    where transactions > chunk_transactions
),

added as (
    select
        merchant,
        transactions,
        sum(customers) as customers,
        max(chunk_seq) as last_chunk_seq
    from moves
    group by merchant, transactions
),

final as (
    select
        added.merchant,
        added.transactions,
        cast(coalesce(state.customers, 0) + added.customers as bigint) as customers,
        added.last_chunk_seq
    from added
    left join {{ this }} as state
        on added.merchant = state.merchant and added.transactions = state.transactions
)
{% else %}
with final as (
    select
        merchant,
        transactions,
        count(*) as customers,
        max(last_chunk_seq) as last_chunk_seq
    from {{ ref('merchant_customers') }}
    group by merchant, transactions
)
{% endif %}

select * from final
