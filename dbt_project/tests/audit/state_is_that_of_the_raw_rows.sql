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
    group by merchant, customer
),

kept as (
    select * from {{ ref('merchant_customers') }}
),

only_kept as (
    select * from kept
    except
    select * from recomputed
),

only_recomputed as (
    select * from recomputed
    except
    select * from kept
)

select 'only in state' as problem, * from only_kept
union all
select 'only in raw rows' as problem, * from only_recomputed
