{{ config(materialized='incremental', incremental_strategy=upsert_strategy(), unique_key=['merchant', 'customer']) }}
-- depends_on: {{ ref('batch_merchant_customers') }}

{% if is_incremental() %}
with changed as (
    select * from {{ ref('batch_merchant_customers') }}
    where is_last_of_batch and chunk_seq > (select coalesce(max(last_chunk_seq), 0) from {{ this }})
),

final as (
    select
        merchant,
        customer,
        transactions,
        amount,
        first_chunk_seq,
        first_female_chunk_seq,
        first_male_chunk_seq,
        chunk_seq as last_chunk_seq
    from changed
)
{% else %}
with final as (
    {{ merchant_customers_of(ref('stg_activity')) }}
)
{% endif %}

select * from final
