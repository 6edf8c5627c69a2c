{{ config(tags=['pattern']) }}

with merchant_customers as (
    select * from {{ ref('batch_merchant_customers') }}
),

final as (
    select
        'PatId2' as pattern_id,
        'CHILD' as action_type,
        chunk_seq,
        merchant,
        customer,
        transactions as customer_transactions,
        amount as customer_amount,
        {{ thresholds_in_force(['child_max_average_amount', 'child_min_transactions']) }} as thresholds
    from merchant_customers
    where
        transactions >= {{ threshold('child_min_transactions') }}
        and amount < {{ threshold('child_max_average_amount') }} * transactions
)

select * from final
