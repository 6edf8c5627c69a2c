"""A design on Spark that recomputes the patterns from all history for each chunk, for comparison with Tallymark.

For each chunk, it appends the rows to a staging table, recomputes all aggregates, joins them back to every transaction
row, ranks over the wrong partition, and writes the results for all rows again, 50 rows to a file. These mistakes stay,
because they are part of its cost. The staging table is Parquet instead of Delta.
"""

import os
from pathlib import Path

SCHEMA = (
    "step string, customer string, age string, gender string, zipcodeOri string, merchant string, zipMerchant string, "
    "category string, amount double, fraud int"
)
CONFIGURATION = {
    "spark.driver.memory": "4g",
    "spark.sql.shuffle.partitions": 2,
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}
DETECT = """
    with pairs as (
        select merchant, customer, count(*) as n, avg(amount) as average from {staging} group by merchant, customer
    ),
    totals as (select merchant, count(*) as n from {staging} group by merchant),
    ranked as (
        select
            pairs.*,
            percent_rank() over (partition by pairs.customer order by n) as rank_by_transactions,
            percent_rank() over (partition by pairs.customer order by weight) as rank_by_weight
        from pairs
        inner join {weights} as weights using (merchant, customer)
    ),
    genders as (
        select
            merchant,
            count(distinct case when gender = 'F' then customer end) as females,
            count(distinct case when gender = 'M' then customer end) as males
        from {staging}
        group by merchant
    )
    select 'PatId1' as pattern, 'UPGRADE' as action, ranked.customer, ranked.merchant
    from {staging} inner join ranked using (merchant, customer) inner join totals using (merchant)
    where totals.n > 50000 and rank_by_transactions >= 0.99 and rank_by_weight <= 0.01
    union all
    select 'PatId2', 'CHILD', pairs.customer, pairs.merchant
    from {staging} inner join pairs using (merchant, customer)
    where pairs.n >= 80 and pairs.average < 23
    union all
    select 'PatId3', 'DEI-NEEDED', '', genders.merchant
    from {staging} inner join genders using (merchant)
    where females > 100 and females < males
"""


class Recompute:
    """Append each chunk to the staging table, and evaluate the patterns over all its rows. Needs pyspark and Java."""

    def __init__(self, root: Path, importance: Path):
        from pyspark.sql import SparkSession

        os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
        self.root = root / "spark"
        self.spark = SparkSession.builder.master("local[2]").config(map=CONFIGURATION).getOrCreate()
        self.spark.sparkContext.setLogLevel("ERROR")
        weights = self.spark.read.csv(str(importance), header=True, quote="'", inferSchema=True)
        self.weights = weights.selectExpr("Source as customer", "Target as merchant", "Weight as weight").cache()
        self.weights.count()

    def take(self, file: Path) -> None:
        staging = str(self.root / "staging")
        rows = self.spark.read.csv(str(file), schema=SCHEMA, header=True, quote="'")
        rows.coalesce(1).write.mode("append").parquet(staging)
        detections = self.spark.sql(DETECT, staging=self.spark.read.parquet(staging), weights=self.weights)
        detections.write.mode("overwrite").option("maxRecordsPerFile", 50).csv(str(self.root / "output"))
