create or replace table sealed_ledger as select unnest(ledger, recursive := true) from current where false;
create or replace table sealed_detections as select unnest(detections, recursive := true) from current where false;
