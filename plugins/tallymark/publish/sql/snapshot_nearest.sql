-- Replaces the candidates nearest to a detection at the merchants of the last batch. Candidates that the batch did not
-- evaluate stay.
create or replace temp table nearest_now as
with evaluated as (
    select merchant, customer from batch_merchant_customers
    union
    select merchant, '' as customer from batch_merchants
),

kept as (
    select * from snapshot.nearest as before
    where
        merchant in (select merchant from batch_merchants)
        and not list_contains(getvariable('snapshot').depend_on_other_customers::varchar[], pattern_id)
        and not exists (
            select 1 from evaluated
            where evaluated.merchant = before.merchant and evaluated.customer = before.customer
        )
),

found as (
    select * from batch_candidates as candidates
    where
        not is_met
        and is_last_of_batch
        and not exists (
            select 1 from detections
            where
                detections.pattern_id = candidates.pattern_id
                and detections.merchant = candidates.merchant
                and detections.customer = candidates.customer
        )
)

-- Keeps more than the page shows, so that others move up when some are detected.
select * from (select * from kept union all by name select * from found) as near
qualify row_number() over (partition by pattern_id, merchant order by distance, customer) <= 20;

delete from snapshot.nearest where merchant in (select merchant from batch_merchants);

insert into snapshot.nearest by name select * from nearest_now;
