"""A micro-batch of one chunk and one of 60 chunks, over the number of (merchant, customer) pairs that the state keeps.

The state is written by SQL: ten merchants with as many customers each, or one merchant with all of them, each with more
than 50,000 transactions, and a weight for every third pair. The raw rows behind it are not: `growth` measures history.
"""

import resource
from pathlib import Path
from statistics import median

import duckdb
from tallymark.intake import ledger
from tallymark.pipeline.build import build_models
from tallymark.pipeline.export import export_detections
from tallymark.pipeline.load import load_chunks
from tallymark.store.folder import FolderStore
from tallymark.warehouse.connection import connect

from benchmarks.common import (
    STEPS,
    Measured,
    Options,
    fresh,
    in_child,
    micro_batch,
    new_objects,
    settings_of,
    timed,
    warm_up,
)
from benchmarks.history import PAST_COUNTS, PAST_MERCHANTS, put_rows

MERCHANTS = 10
BACKLOG = 60
CHUNKS = 5
IMPORTANCE = """
    copy (
        select 'C' || c as "Source", 'M' || m as "Target", $version + c * 7919 % 100003 as "Weight"
        from range(0, $customers, 3) as customers (c), range($merchants) as merchants (m)
    ) to '{path}' (header)
"""
# A customer bought 1 + c % 10 times, or as often as it takes for a merchant to exceed 50,000 transactions.
STATE = """
    insert into merchant_customers by name
    select
        'M' || m as merchant,
        'C' || c as customer,
        1 + c % 10 + 60000 // $customers as transactions,
        50 * transactions as amount,
        1 as first_chunk_seq,
        if(c % 2 = 0, 1, null) as first_female_chunk_seq,
        if(c % 2 = 0, null, 1) as first_male_chunk_seq,
        1 as last_chunk_seq
    from range($customers) as customers (c), range($merchants) as merchants (m)
    order by hash(c, m)
"""
LEDGER = """
    insert into raw.chunks by name
    select
        1 as chunk_seq, 'input/transactions/chunk_0' as chunk_key, 'x' as etag, 'accepted' as state,
        sum(transactions) as rows_in_file, sum(transactions) as rows_accepted, 0 as rows_rejected,
        1 as importance_version, cast(now() at time zone 'UTC' as timestamp) as landed_at, landed_at as y_started_at,
        landed_at as loaded_at
    from merchants
"""
LOOK_UP = """
    select count(*), sum(state.transactions)
    from merchant_customers as state
    inner join keys on state.merchant = keys.merchant and state.customer = keys.customer
"""


def measure(options: Options) -> Measured:
    sizes = [10**5, 10**6] if options.quick else [10**5, 10**6, 10**7]
    found = Measured(series={"pairs": sizes})
    shapes = [(size, MERCHANTS) for size in sizes] + [(sizes[-1], 1)]
    for size, merchants in shapes:
        name = f"pairs_{size}" + ("_one_merchant" if merchants == 1 else "")
        root = fresh("pairs")
        in_child(make_state, root, size // merchants, merchants)
        for figure, value in in_child(_batches, options, root, size // merchants, merchants).items():
            found.figures[f"{name}_{figure}"] = value
    small, large = (f"pairs_{size}" for size in (sizes[0], sizes[-1]))
    for what in ("chunk", "backlog"):
        ratio = found.figures[f"{large}_{what}"][0] / found.figures[f"{small}_{what}"][0]
        found.figures[f"pairs_{what}_ratio"] = (ratio, "times")
    found.figures["pairs_chunk_over_look_up"] = found.figures[f"{large}_over_look_up"]
    found.series["seconds"] = [found.figures[f"pairs_{size}_chunk"][0] for size in sizes]
    return found


def make_state(root: Path, customers: int, merchants: int) -> None:
    """A warehouse that keeps so many customers at each of so many merchants."""
    settings, store = settings_of(root), FolderStore(root)
    write_importance(root, customers, merchants, version=1)
    load_chunks(settings, store, objects=[])
    build_models(settings)
    export_detections(settings, store)
    with connect(settings) as warehouse:
        warehouse.execute("set enable_progress_bar = false")
        warehouse.execute(STATE, {"customers": customers, "merchants": merchants})
        for statement in (PAST_MERCHANTS, PAST_COUNTS, LEDGER):
            warehouse.execute(statement)
        warehouse.execute("insert into output.releases values (1, now() at time zone 'UTC')")
        ledger.create_ledger_views(warehouse, settings.limits)
        ledger.update_index(settings, warehouse, ())


def write_importance(root: Path, customers: int, merchants: int, version: int) -> None:
    """A weight for every third pair; another version has other weights."""
    path = root / "input/customers/customer_importance.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {"customers": customers, "merchants": merchants, "version": version}
    with duckdb.connect() as database:
        database.execute("set enable_progress_bar = false")
        database.execute(IMPORTANCE.format(path=path), values)


def _batches(options: Options, root: Path, customers: int, merchants: int) -> dict[str, tuple[float, str]]:
    """Seconds of micro-batches of a chunk, of a backlog and of a new importance version, and this process's memory."""
    warm_up(options.data)
    number, figures = 0, {}

    def batch(chunks: int, is_whole_bucket: bool = False) -> dict[str, float]:
        nonlocal number
        objects = []
        for _ in range(chunks):
            number += 1
            put_rows(root, number, customers, merchants)
            objects += new_objects(root, number)
        return micro_batch(root, chunks, objects)

    # The first one detects what the state holds, and counts the lightest customers of each merchant.
    figures["first"] = (sum(batch(1).values()), "s")
    singles = [batch(1) for _ in range(CHUNKS)]
    figures["chunk"] = (median(sum(steps.values()) for steps in singles), "s")
    for name in STEPS:
        figures[name] = (median(steps[name] for steps in singles), "s")
    figures["memory"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, "GB")
    look_ups = [_look_up(root, customers, merchants, turn) for turn in range(CHUNKS)]
    figures["look_up"] = (median(look_ups), "s")
    figures["over_look_up"] = (figures["chunk"][0] / figures["look_up"][0], "times")
    figures["backlog"] = (sum(batch(BACKLOG).values()), "s")
    figures["memory_with_backlog"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, "GB")
    write_importance(root, customers, merchants, version=2)
    figures["new_importance"] = (sum(batch(1).values()), "s")
    figures["chunk_after_it"] = (sum(batch(1).values()), "s")
    return figures


def _look_up(root: Path, customers: int, merchants: int, turn: int) -> float:
    """Seconds of one plain look-up of 10,000 keys in the state."""
    with duckdb.connect(str(settings_of(root).warehouse), read_only=True) as database:
        database.execute("set enable_progress_bar = false")
        database.execute(
            """
            create temp table keys as
            select distinct
                'C' || hash(i, $turn) % $customers as customer, 'M' || hash(i, $turn, 1) % $merchants as merchant
            from range(10000) as keys (i)
            """,
            {"customers": customers, "merchants": merchants, "turn": turn},
        )
        return timed(lambda: database.execute(LOOK_UP).fetchall())
