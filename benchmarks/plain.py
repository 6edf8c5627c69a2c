"""The three patterns in plain DuckDB, without any state that is kept: what others would do instead."""

from collections.abc import Sequence
from pathlib import Path

import duckdb

READ = """
    select customer, merchant, upper(trim(gender)) as gender, amount
    from read_csv(
        $files, header = true, auto_detect = false, delim = ',', quote = '''', escape = '''',
        columns = {
            'step': 'varchar', 'customer': 'varchar', 'age': 'varchar', 'gender': 'varchar', 'zip': 'varchar',
            'merchant': 'varchar', 'zip_merchant': 'varchar', 'category': 'varchar', 'amount': 'decimal(18, 4)',
            'fraud': 'varchar'
        }
    )
"""
WEIGHTS = """
    create or replace table weights as
    select "Source" as customer, "Target" as merchant, sum(cast("Weight" as decimal(18, 4))) as weight
    from read_csv($files, header = true, all_varchar = true, quote = '''')
    group by all
"""
DETECT = """
    with pairs as (
        select merchant, customer, count(*) as n, sum(amount) as s, max(gender = 'F') as f, max(gender = 'M') as m
        from staging
        group by all
    ),
    merchants as (
        select merchant, sum(n) as n, count(*) as customers, count_if(f) as f, count_if(m) as m
        from pairs
        group by all
    ),
    ranked as (
        select *, rank() over (partition by merchant order by n) - 1 as fewer
        from pairs
        where merchant in (select merchant from merchants where n > 50000)
    ),
    weighted as (
        select
            ranked.*,
            rank() over (partition by merchant order by weight) - 1 as smaller,
            count(*) over (partition by merchant) as weighted
        from ranked
        inner join weights using (merchant, customer)
    )
    select 'PatId1' as pattern, 'UPGRADE' as action, weighted.merchant, weighted.customer
    from weighted
    inner join merchants using (merchant)
    where customers >= 2 and 100 * fewer >= 99 * (customers - 1) and 100 * smaller <= weighted - 1
    union all
    select 'PatId2', 'CHILD', merchant, customer from pairs where n >= 80 and s < 23 * n
    union all
    select 'PatId3', 'DEI-NEEDED', merchant, '' from merchants where f > 100 and f < m
"""


def open_with_weights(importance: Path, path: str = ":memory:") -> duckdb.DuckDBPyConnection:
    """A database that has the customer importance already."""
    database = duckdb.connect(path)
    database.execute("set enable_progress_bar = false")
    database.execute(WEIGHTS, {"files": str(importance)})
    return database


def one_pass(database: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> list[tuple]:
    """Read all files, aggregate, rank, all three patterns once, at the end only: the limit of what is possible."""
    database.execute(f"create or replace table staging as {READ}", {"files": list(map(str, files))})
    return database.execute(DETECT).fetchall()


def recompute_warehouse(path: Path) -> list[tuple]:
    """What is detected in the raw rows of a warehouse, by going through all of them once."""
    with duckdb.connect(str(path), read_only=True) as database:
        database.execute("set enable_progress_bar = false")
        database.execute("create temp view staging as select customer, merchant, gender, amount from raw.transactions")
        database.execute(
            """
            create temp view weights as
            select customer, merchant, sum(weight) as weight from raw.customer_importance group by all
            """
        )
        return database.execute(DETECT).fetchall()


class Recompute:
    """Append each chunk to a table in a file, recompute everything from all history, write what is new."""

    def __init__(self, root: Path, importance: Path):
        self.output = root / "output"
        self.output.mkdir(parents=True)
        self.database = open_with_weights(importance, str(root / "recompute.duckdb"))
        self.database.execute(
            "create table staging (customer varchar, merchant varchar, gender varchar, amount decimal(18, 4))"
        )
        self.seen: set[tuple] = set()
        self.files = 0

    def take(self, files: Sequence[Path]) -> None:
        self.database.execute(f"insert into staging {READ}", {"files": list(map(str, files))})
        new = sorted(set(self.database.execute(DETECT).fetchall()) - self.seen)
        self.seen.update(new)
        for start in range(0, len(new), 50):
            self.files += 1
            lines = [",".join(row) for row in new[start : start + 50]]
            (self.output / f"detections-{self.files:08d}.csv").write_text("\n".join(lines) + "\n")
