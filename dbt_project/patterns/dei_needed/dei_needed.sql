{% macro rule_of_dei_needed() %}
    female_customers > {{ threshold('dei_min_female_customers') }}
    and female_customers < male_customers
{% endmacro %}

with merchants as (
    select * from {{ ref('batch_merchants') }}
),

evidence as (
    select
        chunk_seq,
        merchant,
        '' as customer,
        is_last_of_batch,
        female_customers,
        male_customers
    from merchants
    where 2 * female_customers > {{ threshold('dei_min_female_customers') }}
),

final as (
    select
        *,
        {{ rule_of_dei_needed() }} as is_met,
        {{ shortfall('female_customers', threshold('dei_min_female_customers')) }}
        + {{ excess('female_customers', 'male_customers') }} as distance
    from evidence
)

select * from final
