-- Copies the raw rows from Spark into the warehouse, and detaches the warehouse from Spark. The variable files
-- maps table names to Parquet files.
insert into raw.transactions by name
from read_parquet(getvariable('files').transactions);

insert into raw.customer_importance by name
from read_parquet(getvariable('files').customer_importance);

delete from lake.about;

delete from lake.loads;

delete from lake.builds;
