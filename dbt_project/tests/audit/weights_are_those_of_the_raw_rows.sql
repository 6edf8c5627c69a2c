with recomputed as (
    select
        importance_version,
        merchant,
        customer,
        count(*) as importance_rows,
        sum(weight) as sum_weight,
        min(weight) as min_weight,
        max(weight) as max_weight
    from {{ source('raw', 'customer_importance') }}
    where importance_version <= (select coalesce(max(importance_version), 0) from {{ ref('customer_weights') }})
    group by importance_version, merchant, customer
),

kept as (
    select * from {{ ref('customer_weights') }}
)

{{ differences('kept', 'recomputed') }}
