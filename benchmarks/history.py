"""Generates warehouses with a long history.

SQL writes rows and ledger, because loading 100 million rows takes hours. Then dbt builds the state.
"""

import random
from pathlib import Path

from tallymark.local.generate import TRANSACTIONS_HEADER
from tallymark.pipeline.load import load_chunks
from tallymark.store import StoredObject
from tallymark.store.folder import FolderStore
from tallymark.warehouse.connection import connect
from tallymark.warehouse.ledger_index import LedgerIndex

from benchmarks import common, plain

# Each pair has at least one visit; the remaining visits are by random pairs. A visit has $repeat transactions.
PAST_ROWS = """
    insert into raw.transactions by name
    select
        1 + i // $chunk_rows as chunk_seq,
        2 + i % $chunk_rows as line_number,
        'C' || pair // $merchants as customer,
        if(pair // $merchants % 2 = 0, 'F', 'M') as gender,
        'M' || pair % $merchants as merchant,
        cast(25 + i % 100 as decimal(18, 4)) as amount
    from (
        select i, if(i // $repeat < $pairs, i // $repeat, hash(i // $repeat) % $pairs) as pair
        from range($rows) as past (i)
    )
"""
PAST_CHUNKS = """
    insert into raw.chunks by name
    select
        chunk_seq, 'input/transactions/chunk_' || chunk_seq as chunk_key, md5(chunk_key) as etag, 'accepted' as state,
        rows_accepted as rows_in_file, rows_accepted, 0 as rows_rejected, 1 as importance_version,
        cast(now() at time zone 'UTC' as timestamp) as landed_at, landed_at as y_started_at, landed_at as loaded_at
    from (select chunk_seq, count(*) as rows_accepted from raw.transactions group by chunk_seq)
    order by chunk_seq
"""
RELEASE = "insert into output.releases select max(chunk_seq), now() at time zone 'UTC' from raw.chunks"
IMPORTANCE = """
    copy (
        select 'C' || c as "Source", 'M' || m as "Target", $version + c * 7919 % 100003 as "Weight"
        from range(0, $customers, 3) as customers (c), range($merchants) as merchants (m)
    ) to $path (header)
"""


def make_past(root: Path, rows: int, customers: int, merchants: int, repeat: int = 1) -> int:
    """Create a warehouse in which each customer bought at each merchant, and return its number of chunks.

    Args:
        rows: number of transactions; at least customers times merchants times ``repeat``.
        repeat: number of consecutive transactions of the same pair.
    """
    settings = common.settings_of(root)
    put_importance(root, customers, merchants)
    load_chunks(settings, FolderStore(root), objects=[])  # loads the customer importance
    values = {"rows": rows, "pairs": customers * merchants, "merchants": merchants, "repeat": repeat}
    with connect(settings) as warehouse:
        warehouse.execute("set enable_progress_bar = false")
        warehouse.execute(PAST_ROWS, values | {"chunk_rows": common.CHUNK_ROWS})
        warehouse.execute(PAST_CHUNKS)
        warehouse.execute(RELEASE)
    LedgerIndex(settings.warehouse, settings.limits).discard()
    common.micro_batch(root, [])
    return -(-rows // common.CHUNK_ROWS)


def put_importance(root: Path, customers: int, merchants: int, version: int = 1) -> None:
    """Write a weight for every third pair. Each version has different weights."""
    path = root / "input/customers/customer_importance.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {"customers": customers, "merchants": merchants, "version": version, "path": str(path)}
    with plain.connect() as database:
        database.execute(IMPORTANCE, values)


def land_random(root: Path, number: int, customers: int, merchants: int) -> StoredObject:
    """Put a chunk with 10,000 rows of random pairs, and return its listing. The same number gives the same rows."""
    chance, lines = random.Random(number), [TRANSACTIONS_HEADER]
    for _ in range(common.CHUNK_ROWS):
        customer, merchant, amount = chance.randrange(customers), chance.randrange(merchants), chance.randrange(25, 125)
        gender = "M" if customer % 2 else "F"
        lines.append(f"0,'C{customer}','2','{gender}','28007','M{merchant}','28007','es_food',{amount}.5,0")
    key = f"input/transactions/chunk_{number}"
    FolderStore(root).put(key, "\n".join(lines).encode())
    return next(stored for stored in FolderStore(root).list(key) if stored.key == key)
