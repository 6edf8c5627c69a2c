with sets as (
    select distinct
        importance_version,
        merchant,
        weight_aggregate,
        is_complete,
        heaviest_key,
        heaviest_key_remainder
    from {{ ref('lightest_customers') }}
),

customers as (
    select
        merchant,
        customer,
        count(*) as transactions,
        min(chunk_seq) as first_chunk_seq
    from {{ source('raw', 'transactions') }}
    where chunk_seq <= (select max(last_chunk_seq) from {{ ref('lightest_customers') }})
    group by merchant, customer
),

importance as (
    select
        importance_version,
        merchant,
        customer,
        count(*) as importance_rows,
        sum(weight) as sum_weight,
        min(weight) as min_weight,
        max(weight) as max_weight
    from {{ source('raw', 'customer_importance') }}
    group by importance_version, merchant, customer
),

weighted as (
    select
        importance.importance_version,
        customers.*,
        {{ weight_sort_keys_by('sets.weight_aggregate', 'importance') }}
    from sets
    inner join importance
        on sets.importance_version = importance.importance_version and sets.merchant = importance.merchant
    inner join customers on importance.merchant = customers.merchant and importance.customer = customers.customer
),

ranked as (
    select
        *,
        rank() over (partition by importance_version, merchant order by weight_key, weight_key_remainder) - 1
            as customers_with_smaller_weight,
        count(*) over (partition by importance_version, merchant) as customers_with_weight
    from weighted
),

recomputed as (
    select
        sets.importance_version,
        sets.merchant,
        ranked.customer,
        ranked.transactions,
        ranked.first_chunk_seq,
        ranked.customers_with_smaller_weight,
        coalesce(ranked.customers_with_weight, 0) as customers_with_weight
    from sets
    left join ranked on sets.importance_version = ranked.importance_version and sets.merchant = ranked.merchant
    where
        sets.is_complete
        or ranked.weight_key < sets.heaviest_key
        or (ranked.weight_key = sets.heaviest_key and ranked.weight_key_remainder <= sets.heaviest_key_remainder)
),

kept as (
    select
        importance_version,
        merchant,
        customer,
        transactions,
        first_chunk_seq,
        customers_with_smaller_weight,
        customers_with_weight
    from {{ ref('lightest_customers') }}
)

{{ differences('kept', 'recomputed') }}
