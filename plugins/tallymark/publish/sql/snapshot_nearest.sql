-- Those who are nearest to a detection that was not made, at the merchants of the last batch: up to $top per pattern.
-- Distances are for people, and decide nothing. Merchants with more than $max_customers customers are left out of
-- PatId1, as ranking them takes too long.
with thresholds as (
    select * from chunk_thresholds order by chunk_seq desc limit 1
),

batch as (
    select distinct merchant from batch_merchants
),

version as (
    select importance_version from raw.chunks order by chunk_seq desc limit 1
),

child as (
    select
        state.merchant,
        'PatId2' as pattern_id,
        state.customer,
        greatest(0, 1 - state.transactions / child_min_transactions)
        + greatest(0, state.amount / state.transactions / child_max_average_amount - 1) as distance,
        format(
            '{:,} transactions (at least {:g} wanted), Rs {:,.2f} on average (below {:g} wanted)',
            state.transactions,
            cast(child_min_transactions as double),
            ceil(100 * cast(state.amount as double) / state.transactions) / 100,
            cast(child_max_average_amount as double)
        ) as words
    from merchant_customers as state
    cross join thresholds
    where
        state.merchant in (select merchant from batch)
        and 2 * state.transactions >= child_min_transactions
        and state.amount < 2 * child_max_average_amount * state.transactions
        and child_min_transactions > 0
        and child_max_average_amount > 0
),

large_merchants as (
    select merchants.merchant
    from merchants
    cross join thresholds
    where
        merchants.merchant in (select merchant from batch)
        and merchants.transactions > upgrade_min_merchant_transactions
        and merchants.customers between 2 and $max_customers
),

ranked_customers as (
    select
        state.merchant,
        state.customer,
        state.transactions,
        100 * percent_rank() over (partition by state.merchant order by state.transactions) as place
    from merchant_customers as state
    where state.merchant in (select merchant from large_merchants)
),

weighted_customers as (
    select
        weights.merchant,
        weights.customer,
        case upgrade_weight_aggregate
            when 'sum' then weights.sum_weight
            when 'avg' then weights.sum_weight / weights.importance_rows
            when 'min' then weights.min_weight
            else weights.max_weight
        end as weight,
        upgrade_top_percent,
        upgrade_bottom_percent
    from customer_weights as weights
    cross join thresholds
    where
        weights.importance_version = (select importance_version from version)
        and weights.merchant in (select merchant from large_merchants)
),

ranked_weights as (
    select
        weighted.*,
        customers.transactions,
        customers.place,
        100 * percent_rank() over (partition by weighted.merchant order by weighted.weight) as weight_place
    from weighted_customers as weighted
    inner join ranked_customers as customers
        on weighted.merchant = customers.merchant and weighted.customer = customers.customer
),

upgrade as (
    select
        merchant,
        'PatId1' as pattern_id,
        customer,
        (greatest(0, 100 - upgrade_top_percent - place) + greatest(0, weight_place - upgrade_bottom_percent)) / 100
            as distance,
        format(
            '{:,} transactions, more than {:.1f} percent of its other customers (at least {:g} wanted); '
            || 'weight {:g}, lowest {:.1f} percent (at most {:g} wanted)',
            transactions,
            floor(place * 10) / 10,
            100 - cast(upgrade_top_percent as double),
            cast(weight as double),
            ceil(weight_place * 10) / 10,
            cast(upgrade_bottom_percent as double)
        ) as words
    from ranked_weights
),

candidates as (
    select * from child
    union all
    select * from upgrade
),

final as (
    select candidates.*
    from candidates
    where not exists (
        select 1 from detections
        where
            detections.pattern_id = candidates.pattern_id
            and detections.merchant = candidates.merchant
            and detections.customer = candidates.customer
    )
    qualify row_number() over (partition by merchant, pattern_id order by distance, customer) <= $top
)

select * from final
