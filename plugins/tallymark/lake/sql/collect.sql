-- Copies the results of a build on Spark into tables named after the models: the batch's candidates, the merchants and
-- pairs that it evaluated, and the changed merchants. The variable files maps table names to Parquet files.
create or replace table batch_candidates as from read_parquet(getvariable('files').batch_candidates);

create or replace table batch_merchants as from read_parquet(getvariable('files').batch_merchants);

create or replace table batch_merchant_customers as
from read_parquet(getvariable('files').batch_merchant_customers);

create table if not exists merchants as
from read_parquet(getvariable('files').merchants) limit 0;

delete from merchants
where merchant in (select merchant from read_parquet(getvariable('files').merchants));

insert into merchants by name
from read_parquet(getvariable('files').merchants);
