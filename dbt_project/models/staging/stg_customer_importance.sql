select
    importance_version,
    merchant,
    customer,
    weight
from {{ source('raw', 'customer_importance') }}
