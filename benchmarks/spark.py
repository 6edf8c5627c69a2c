"""The prototype's method on Spark, as far as it decides how long it takes; its mistakes are left in.

Each chunk is appended to a staging table, all aggregates are recomputed from all history and joined back to every
transaction row, ranks are taken over the wrong partition, and whatever comes out, for every row again and in every
chunk again, is written 50 rows to a file. The staging table is Parquet instead of Delta.
"""

import csv
import os
import shutil
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

COLUMNS = "step string, customer string, age string, gender string, zipcodeOri string, merchant string, "
COLUMNS += "zipMerchant string, category string, amount double, fraud int"


class Prototype:
    """Raises ImportError when pyspark is missing, and RuntimeError when Java is."""

    def __init__(self, root: Path, importance: Path):
        from pyspark.sql import SparkSession

        self.root = root
        (root / "output").mkdir(parents=True)
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
        builder = SparkSession.builder.master("local[2]").appName("prototype")
        for name, value in {
            "spark.sql.shuffle.partitions": 2,
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.memory": "4g",
            "spark.log.level": "ERROR",
        }.items():
            builder = builder.config(name, value)
        self.spark = builder.getOrCreate()
        weights = self.spark.read.csv(str(importance), header=True, quote="'", inferSchema=True)
        self.weights = weights.selectExpr("Source as customer", "Target as merchant", "Weight as weight").cache()
        self.weights.count()

    def take(self, files: Sequence[Path]) -> None:
        staging = str(self.root / "staging")
        rows = self.spark.read.csv(list(map(str, files)), schema=COLUMNS, header=True, quote="'")
        rows.coalesce(1).write.mode("append").parquet(staging)
        self.spark.read.parquet(staging).createOrReplaceTempView("staging")
        self.weights.createOrReplaceTempView("weights")
        detections = self.spark.sql(DETECT).toLocalIterator(prefetchPartitions=True)
        number = 0
        while group := list(islice(detections, 50)):
            number += 1
            with (self.root / "output" / f"detections_{number}.csv").open("w", newline="") as written:
                csv.writer(written).writerows(group)

    def close(self) -> None:
        self.spark.stop()


def find(root: Path, importance: Path) -> tuple[Prototype | None, list[str]]:
    """The prototype, or none and a note that says why."""
    try:
        if not shutil.which("java"):
            raise RuntimeError("there is no Java")
        return Prototype(root, importance), []
    except (ImportError, RuntimeError) as error:
        return None, [f"The prototype's method on Spark was skipped: {error}."]


DETECT = """
    with pairs as (
        select merchant, customer, count(*) as n, avg(amount) as average from staging group by merchant, customer
    ),
    totals as (select merchant, count(*) as n from staging group by merchant),
    ranked as (
        select
            pairs.*,
            percent_rank() over (partition by pairs.customer order by n) as rank_by_transactions,
            percent_rank() over (partition by pairs.customer order by weight) as rank_by_weight
        from pairs
        inner join weights on pairs.merchant = weights.merchant and pairs.customer = weights.customer
    ),
    genders as (
        select
            merchant,
            count(distinct case when gender = 'F' then customer end) as females,
            count(distinct case when gender = 'M' then customer end) as males
        from staging
        group by merchant
    )
    select 'PatId1', 'UPGRADE', staging.customer, staging.merchant
    from staging
    inner join ranked on staging.merchant = ranked.merchant and staging.customer = ranked.customer
    inner join totals on staging.merchant = totals.merchant
    where totals.n > 50000 and rank_by_transactions >= 0.99 and rank_by_weight <= 0.01
    union all
    select 'PatId2', 'CHILD', staging.customer, staging.merchant
    from staging
    inner join pairs on staging.merchant = pairs.merchant and staging.customer = pairs.customer
    where pairs.n >= 80 and pairs.average < 23
    union all
    select 'PatId3', 'DEI-NEEDED', '', staging.merchant
    from staging
    inner join genders on staging.merchant = genders.merchant
    where females > 100 and females < males
"""
