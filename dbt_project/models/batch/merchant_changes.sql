{{ config(materialized='ephemeral') }}

select
    chunk_seq,
    merchant,
    cast(sum(chunk_transactions) as bigint) as transactions,
    sum(chunk_amount) as amount,
    sum(case when chunk_seq = first_chunk_seq then 1 else 0 end) as customers,
    sum(case when chunk_seq = first_female_chunk_seq then 1 else 0 end) as female_customers,
    sum(case when chunk_seq = first_male_chunk_seq then 1 else 0 end) as male_customers
from {{ ref('batch_merchant_customers') }}
group by chunk_seq, merchant
