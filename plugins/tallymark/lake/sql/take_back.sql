-- Copies the raw rows from Spark into the warehouse, and detaches the warehouse from Spark. The variable handed_back
-- maps table names to Parquet files.
insert into raw.transactions by name
from read_parquet(getvariable('handed_back').transactions);

insert into raw.customer_importance by name
from read_parquet(getvariable('handed_back').customer_importance);

delete from lake.about;

delete from lake.loads;

delete from lake.builds;
