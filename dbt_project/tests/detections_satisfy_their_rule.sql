select *
from {{ ref('batch_detections') }}
where
    not coalesce(
        case pattern_id
            when 'PatId1' then
                merchant_transactions > {{ threshold('upgrade_min_merchant_transactions') }}
                and merchant_customers >= 2
                and customers_with_fewer_transactions < merchant_customers
                and 100 * customers_with_fewer_transactions
                >= (100 - {{ threshold('upgrade_top_percent') }}) * (merchant_customers - 1)
                and customers_with_smaller_weight < customers_with_weight
                and customers_with_weight <= merchant_customers
                and 100 * customers_with_smaller_weight
                <= {{ threshold('upgrade_bottom_percent') }} * (customers_with_weight - 1)
            when 'PatId2' then
                customer_transactions >= {{ threshold('child_min_transactions') }}
                and customer_amount < {{ threshold('child_max_average_amount') }} * customer_transactions
            when 'PatId3' then
                customer = ''
                and female_customers > {{ threshold('dei_min_female_customers') }}
                and female_customers < male_customers
            else false
        end,
        false
    )
