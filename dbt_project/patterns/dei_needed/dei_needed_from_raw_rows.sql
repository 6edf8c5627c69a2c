with first_seen as (
    select
        merchant,
        customer,
        min(case when upper(trim(gender)) = 'F' then chunk_seq end) as first_female_chunk_seq,
        min(case when upper(trim(gender)) = 'M' then chunk_seq end) as first_male_chunk_seq
    from {{ source('raw', 'transactions') }}
    group by merchant, customer
),

changes as (
    select distinct chunk_seq, merchant, 0 as females, 0 as males
    from {{ source('raw', 'transactions') }}
    union all
    select first_female_chunk_seq as chunk_seq, merchant, 1 as females, 0 as males
    from first_seen
    where first_female_chunk_seq is not null
    union all
    select first_male_chunk_seq as chunk_seq, merchant, 0 as females, 1 as males
    from first_seen
    where first_male_chunk_seq is not null
),

by_chunk as (
    select
        chunk_seq,
        merchant,
        sum(females) as females,
        sum(males) as males
    from changes
    group by chunk_seq, merchant
),

so_far as (
    select
        chunk_seq,
        merchant,
        '' as customer,
        cast(sum(females) over up_to_the_chunk as bigint) as female_customers,
        cast(sum(males) over up_to_the_chunk as bigint) as male_customers
    from by_chunk
    window up_to_the_chunk as (
        partition by merchant
        order by chunk_seq
        rows between unbounded preceding and current row
    )
),

final as (
    select so_far.*
    from so_far
    inner join {{ source('released', 'chunk_thresholds') }} as thresholds on so_far.chunk_seq = thresholds.chunk_seq
    where
        female_customers > thresholds.dei_min_female_customers
        and female_customers < male_customers
)

select * from final
