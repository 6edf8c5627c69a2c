"""The three patterns in plain DuckDB without state, the obvious alternative to Tallymark."""

from collections.abc import Sequence
from pathlib import Path

import duckdb

READ = """
    select customer, merchant, upper(trim(gender)) as gender, amount
    from read_csv($files, header = true, auto_detect = false, delim = ',', quote = '''', escape = '''', columns = {
        'step': 'varchar', 'customer': 'varchar', 'age': 'varchar', 'gender': 'varchar', 'zip': 'varchar',
        'merchant': 'varchar', 'zip_merchant': 'varchar', 'category': 'varchar', 'amount': 'decimal(18, 4)',
        'fraud': 'varchar'
    })
"""
WEIGHTS = """
    create table weights as
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


def connect(path: Path | str = ":memory:", read_only: bool = False) -> duckdb.DuckDBPyConnection:
    database = duckdb.connect(str(path), read_only=read_only)
    database.execute("set enable_progress_bar = false")
    return database


def read_weights(database: duckdb.DuckDBPyConnection, importance: Path) -> None:
    database.execute(WEIGHTS, {"files": str(importance)})


def one_pass(database: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> list[tuple]:
    """Detect in all files at once, which is the minimum that any solution has to do."""
    database.execute(f"create table staging as {READ}", {"files": list(map(str, files))})
    return database.execute(DETECT).fetchall()


def recompute_warehouse(path: Path) -> None:
    """Detect in all raw rows of a warehouse at once."""
    with connect(path, read_only=True) as database:
        database.execute("create temp view staging as from raw.transactions")
        database.execute(
            "create temp view weights as "
            "select customer, merchant, sum(weight) as weight from raw.customer_importance group by all"
        )
        database.execute(DETECT).fetchall()


class Recompute:
    """Append each chunk to a table in a file, and evaluate the patterns over all its rows."""

    def __init__(self, root: Path, importance: Path):
        self.database = connect(root / "recompute.duckdb")
        read_weights(self.database, importance)
        self.database.execute("create table staging (customer text, merchant text, gender text, amount decimal(18, 4))")
        self.seen: set[tuple] = set()

    def take(self, file: Path) -> None:
        self.database.execute(f"insert into staging {READ}", {"files": [str(file)]})
        self.seen.update(self.database.execute(DETECT).fetchall())
