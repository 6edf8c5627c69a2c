-- What a build on Spark hands back, as tables of the names that its models have: what the batch made and evaluated, and
-- the merchants that it changed. The variable handed_back has the paths of their files.
create or replace table batch_candidates as from read_parquet(getvariable('handed_back').batch_candidates);

create or replace table batch_merchants as from read_parquet(getvariable('handed_back').batch_merchants);

create or replace table batch_merchant_customers as
from read_parquet(getvariable('handed_back').batch_merchant_customers);

create table if not exists merchants as
from read_parquet(getvariable('handed_back').merchants) limit 0;

delete from merchants
where merchant in (select merchant from read_parquet(getvariable('handed_back').merchants));

insert into merchants by name
from read_parquet(getvariable('handed_back').merchants);
