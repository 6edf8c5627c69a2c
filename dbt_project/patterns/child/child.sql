{% macro rule_of_child() %}
    customer_transactions >= {{ threshold('child_min_transactions') }}
    and customer_amount < {{ threshold('child_max_average_amount') }} * customer_transactions
{% endmacro %}

with merchant_customers as (
    select * from {{ ref('batch_merchant_customers') }}
),

evidence as (
    select
        chunk_seq,
        merchant,
        customer,
        is_last_of_batch,
        transactions as customer_transactions,
        amount as customer_amount,
        {{ exact_average('amount', 'transactions') }} as average_amount
    from merchant_customers
    where
        2 * transactions >= {{ threshold('child_min_transactions') }}
        and amount < 2 * {{ threshold('child_max_average_amount') }} * transactions
),

final as (
    select
        *,
        {{ rule_of_child() }} as is_met,
        {{ shortfall('customer_transactions', threshold('child_min_transactions')) }}
        + {{ excess('average_amount', threshold('child_max_average_amount')) }} as distance
    from evidence
)

select * from final
