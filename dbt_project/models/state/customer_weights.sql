{{ config(materialized='incremental', incremental_strategy='append') }}

with importance as (
    select * from {{ ref('stg_customer_importance') }}
    {% if is_incremental() %}
    where importance_version > (select coalesce(max(importance_version), 0) from {{ this }})
    {% endif %}
),

final as (
    select
        importance_version,
        merchant,
        customer,
        count(*) as importance_rows,
        sum(weight) as sum_weight,
        min(weight) as min_weight,
        max(weight) as max_weight
    from importance
    group by importance_version, merchant, customer
)

select * from final
