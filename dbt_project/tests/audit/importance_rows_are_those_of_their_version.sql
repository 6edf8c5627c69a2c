with versions as (
    select importance_version, rows_accepted
    from {{ source('raw', 'importance_versions') }}
    where rows_accepted > 0
),

counted as (
    select importance_version, count(*) as rows_accepted
    from {{ source('raw', 'customer_importance') }}
    group by importance_version
)

{{ differences('versions', 'counted') }}
