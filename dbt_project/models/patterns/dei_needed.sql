{{ config(tags=['pattern']) }}

with merchants as (
    select * from {{ ref('batch_merchants') }}
),

final as (
    select
        'PatId3' as pattern_id,
        'DEI-NEEDED' as action_type,
        chunk_seq,
        merchant,
        '' as customer,
        female_customers,
        male_customers,
        {{ thresholds_in_force(['dei_min_female_customers']) }} as thresholds
    from merchants
    where
        female_customers > {{ threshold('dei_min_female_customers') }}
        and female_customers < male_customers
)

select * from final
