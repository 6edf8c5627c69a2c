{{ config(materialized=intermediate_materialization()) }}

{% macro rule_of_upgrade() %}
    merchant_transactions > {{ threshold('upgrade_min_merchant_transactions') }}
    and merchant_customers >= 2
    and 100 * customers_with_fewer_transactions
    >= (100 - {{ threshold('upgrade_top_percent') }}) * (merchant_customers - 1)
    and 100 * customers_with_smaller_weight <= {{ threshold('upgrade_bottom_percent') }} * (customers_with_weight - 1)
{% endmacro %}

with candidates as (
    select * from {{ ref('upgrade_candidates') }}
),

merchants as (
    select * from {{ ref('batch_merchants') }}
),

lightest as (
    select * from {{ ref('lightest_customers') }}
),

weighted as (
    select
        candidates.*,
        lightest.weight,
        lightest.weight_key,
        lightest.weight_key_remainder,
        lightest.customers_with_weight,
        lightest.customers_with_smaller_weight
    from candidates
    inner join lightest
        on candidates.importance_version = lightest.importance_version
        and candidates.merchant = lightest.merchant
        and candidates.customer = lightest.customer
),

evaluated as (
    select distinct chunk_seq, merchant, importance_version
    from candidates
),

-- Weights are ranked at the end of the batch. For earlier chunks, newcomers of later chunks must be subtracted.
later_newcomers as (
    select
        evaluated.chunk_seq,
        evaluated.merchant,
        count(newcomers.customer) as customers
    from evaluated
    left join {{ ref('batch_newcomers') }} as newcomers
        on evaluated.importance_version = newcomers.importance_version
        and evaluated.merchant = newcomers.merchant
        and evaluated.chunk_seq < newcomers.first_chunk_seq
    group by evaluated.chunk_seq, evaluated.merchant
),

by_weight as (
    select chunk_seq, merchant, customer, weight_key, weight_key_remainder, 0 as later_newcomers
    from weighted
    union all
    select
        evaluated.chunk_seq,
        evaluated.merchant,
        null as customer,
        lightest.weight_key,
        lightest.weight_key_remainder,
        1 as later_newcomers
    from evaluated
    inner join lightest
        on evaluated.importance_version = lightest.importance_version
        and evaluated.merchant = lightest.merchant
        and evaluated.chunk_seq < lightest.first_chunk_seq
),

lighter_newcomers as (
    select
        chunk_seq,
        merchant,
        customer,
        sum(later_newcomers) over (partition by chunk_seq, merchant order by weight_key, weight_key_remainder)
        - sum(later_newcomers) over (partition by chunk_seq, merchant, weight_key, weight_key_remainder)
            as customers
    from by_weight
),

ranked as (
    select
        weighted.*,
        cast(weighted.customers_with_weight - later_newcomers.customers as bigint) as customers_with_weight_then,
        cast(weighted.customers_with_smaller_weight - lighter_newcomers.customers as bigint)
            as customers_with_smaller_weight_then
    from weighted
    inner join later_newcomers
        on weighted.chunk_seq = later_newcomers.chunk_seq and weighted.merchant = later_newcomers.merchant
    inner join lighter_newcomers
        on weighted.chunk_seq = lighter_newcomers.chunk_seq
        and weighted.merchant = lighter_newcomers.merchant
        and weighted.customer = lighter_newcomers.customer
),

evidence as (
    select
        ranked.chunk_seq,
        ranked.merchant,
        ranked.customer,
        merchants.is_last_of_batch,
        ranked.customer_transactions,
        merchants.transactions as merchant_transactions,
        merchants.customers as merchant_customers,
        ranked.customers_with_fewer_transactions,
        ranked.weight,
        ranked.customers_with_weight_then as customers_with_weight,
        ranked.customers_with_smaller_weight_then as customers_with_smaller_weight,
        ranked.importance_version
    from ranked
    inner join merchants on ranked.chunk_seq = merchants.chunk_seq and ranked.merchant = merchants.merchant
),

final as (
    select
        *,
        {{ rule_of_upgrade() }} as is_met,
        {{ excess(
            '100 * ' ~ as_double('merchant_customers - 1 - customers_with_fewer_transactions') ~ ' / (merchant_customers - 1)',
            threshold('upgrade_top_percent')
        ) }}
        + {{ excess(
            '100 * ' ~ as_double('customers_with_smaller_weight') ~ ' / nullif(customers_with_weight - 1, 0)',
            threshold('upgrade_bottom_percent')
        ) }} as distance
    from evidence
)

select * from final
