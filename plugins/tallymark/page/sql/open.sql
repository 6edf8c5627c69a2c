create or replace table tail_ledger as select unnest(ledger, recursive := true) from current;
create or replace table tail_detections as select unnest(detections, recursive := true) from current;
create or replace table merchants as select unnest(merchants, recursive := true) from current;
create or replace table nearest as select unnest(nearest, recursive := true) from current;
create or replace table rejected_rows as select unnest(rejected_rows, recursive := true) from current;
create or replace table conflicts as select unnest(conflicts, recursive := true) from current;
create or replace table refusals as select unnest(refusals, recursive := true) from current;
create or replace table importance_versions as select unnest(importance_versions, recursive := true) from current;
create or replace table thresholds as select unnest(thresholds, recursive := true) from current;

create or replace view ledger as
select * from sealed_ledger
union all by name
select * from tail_ledger;

create or replace view detections as
select * from sealed_detections
union all by name
select * from tail_detections;

-- As the warehouse has them, for the views of the ledger.
create schema if not exists raw;
create or replace view raw.chunks as from main.ledger;
create or replace view raw.conflicts as from main.conflicts;

-- Detections that filters leave; '' leaves all. A merchant or customer that has some is meant exactly, any other text
-- is looked for in the names.
create or replace macro matching(pattern, wanted_merchant, wanted_customer) as table
select detections.*
from detections
cross join (
    select
        bool_or(merchant = wanted_merchant) as is_merchant,
        bool_or(customer = wanted_customer) as is_customer
    from detections
) as named
where
    (pattern = '' or pattern_id = pattern)
    and (
        wanted_merchant = ''
        or merchant = wanted_merchant
        or (not is_merchant and contains(lower(merchant), lower(wanted_merchant)))
    )
    and (
        wanted_customer = ''
        or customer = wanted_customer
        or (not is_customer and contains(lower(customer), lower(wanted_customer)))
    );
