with recomputed as (
    select
        merchant,
        customer,
        count(*) as transactions,
        sum(amount) as amount,
        min(chunk_seq) as first_chunk_seq,
        min(case when upper(trim(gender)) = 'F' then chunk_seq end) as first_female_chunk_seq,
        min(case when upper(trim(gender)) = 'M' then chunk_seq end) as first_male_chunk_seq,
        max(chunk_seq) as last_chunk_seq
    from {{ source('raw', 'transactions') }}
    where chunk_seq <= {{ last_chunk_in_state() }}
    group by merchant, customer
),

kept as (
    select * from {{ ref('merchant_customers') }}
)

{{ differences('kept', 'recomputed') }}
