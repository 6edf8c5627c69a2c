-- The value of a threshold in force when a detection was made.
create or replace temp macro threshold(thresholds, name) as regexp_extract(thresholds, name || '=([^,]*)', 1);

-- The average of amounts in whole hundredths, cut off: exact, as a double may show one less.
create or replace temp macro average_hundredths(amount, transactions) as
    cast(replace(cast(cast(amount as decimal(38, 4)) as varchar), '.', '') as hugeint) // (100 * transactions);

-- The evidence of a detection, in words. Percentages are rounded so that they claim no more than there is.
create or replace temp macro evidence(d) as coalesce(case d.pattern_id
    when 'PatId1' then format(
        '{:,} transactions at {}, more than {:.1f} percent of its other customers; weight {:g}, {}',
        d.customer_transactions,
        d.merchant,
        floor(1000 * d.customers_with_fewer_transactions / greatest(d.merchant_customers - 1, 1)) / 10,
        cast(d.weight as double),
        case
            when d.customers_with_smaller_weight = 0 then 'the lowest'
            else format(
                'lowest {:.1f} percent',
                ceil(1000 * d.customers_with_smaller_weight / (d.customers_with_weight - 1)) / 10
            )
        end
    )
    when 'PatId2' then format(
        '{:,} transactions of Rs {:.2f} on average: at least {}, and below Rs {}',
        d.customer_transactions,
        average_hundredths(d.customer_amount, d.customer_transactions) / 100,
        threshold(d.thresholds, 'child_min_transactions'),
        threshold(d.thresholds, 'child_max_average_amount')
    )
    when 'PatId3' then format(
        '{:,} female customers: more than {}, and fewer than the {:,} male',
        d.female_customers,
        threshold(d.thresholds, 'dei_min_female_customers'),
        d.male_customers
    )
    else d.thresholds
end, 'The evidence was not kept.');
