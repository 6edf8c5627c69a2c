with recomputed as (
    select
        merchant,
        count(*) as transactions,
        sum(amount) as amount,
        count(distinct customer) as customers,
        count(distinct case when upper(trim(gender)) = 'F' then customer end) as female_customers,
        count(distinct case when upper(trim(gender)) = 'M' then customer end) as male_customers,
        max(chunk_seq) as last_chunk_seq
    from {{ source('raw', 'transactions') }}
    where chunk_seq <= {{ last_chunk_in_state() }}
    group by merchant
),

kept as (
    select * from {{ ref('merchants') }}
)

{{ differences('kept', 'recomputed') }}
