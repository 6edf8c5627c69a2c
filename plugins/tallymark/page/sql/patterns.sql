-- The patterns, each with its rule in words under the thresholds in force, and any other that was detected.
with rules as (
    select 'PatId1' as pattern_id, 'UPGRADE' as action_type, format(
        'a customer in the merchant''s top {:g} percent by number of transactions and in its bottom {:g} percent by '
        || 'importance weight, once the merchant has more than {:,.0f} transactions',
        cast(upgrade_top_percent as double),
        cast(upgrade_bottom_percent as double),
        cast(upgrade_min_merchant_transactions as double)
    ) as rule
    from thresholds
    union all
    select 'PatId2', 'CHILD', format(
        'a customer whose transactions at the merchant average below Rs {:g}, over at least {:,.0f} of them',
        cast(child_max_average_amount as double),
        cast(child_min_transactions as double)
    )
    from thresholds
    union all
    select 'PatId3', 'DEI-NEEDED', format(
        'a merchant with more than {:,.0f} female customers, and fewer female than male',
        cast(dei_min_female_customers as double)
    )
    from thresholds
),

made as (
    select pattern_id, action_type, count(*) as detections
    from detections
    group by pattern_id, action_type
)

select
    pattern_id,
    action_type,
    rules.rule,
    coalesce(made.detections, 0) as detections
from rules
full join made using (pattern_id, action_type)
order by pattern_id, action_type
