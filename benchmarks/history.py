"""Warehouses with a long past, made with SQL: rows, ledger and state, as if chunk after chunk had been processed."""

import random
from pathlib import Path

from tallymark.intake import ledger
from tallymark.pipeline.build import build_models
from tallymark.pipeline.export import export_detections
from tallymark.pipeline.load import load_chunks
from tallymark.store.folder import FolderStore
from tallymark.warehouse.connection import connect

from benchmarks.common import CHUNK_ROWS, HEADER, put_chunk, settings_of

# A customer i buys 1 + i % 10 times at each merchant while the one with i % 10 = 0 buys once.
VISITS = """
    create temporary table visits as
    select
        row_number() over (order by hash(c, m, v)) - 1 as place,
        'C' || c as customer,
        'M' || m as merchant,
        if(c % 2 = 0, 'F', 'M') as gender
    from range($customers) as customers (c), range($merchants) as merchants (m), range(1, 11) as visits (v)
    where v <= 1 + c % 10
"""
PAST_ROWS = """
    insert into raw.transactions by name
    select
        1 + i // $chunk_rows as chunk_seq,
        2 + i % $chunk_rows as line_number,
        '0' as step,
        customer,
        '2' as age,
        gender,
        '28007' as zipcode_ori,
        merchant,
        '28007' as zip_merchant,
        'es_food' as category,
        cast(25 + i % 100 as decimal(18, 4)) as amount,
        '0' as fraud
    from (select i, i % $visits as place from range($rows) as past (i))
    inner join visits using (place)
"""
PAST_CHUNKS = """
    insert into raw.chunks by name
    select
        chunk_seq, 'input/transactions/chunk_' || chunk_seq as chunk_key, md5(chunk_key) as etag, 'accepted' as state,
        rows_accepted as rows_in_file, rows_accepted, 0 as rows_rejected,
        cast(now() at time zone 'UTC' as timestamp) as landed_at, landed_at as y_started_at, landed_at as loaded_at,
        1 as importance_version
    from (select chunk_seq, count(*) as rows_accepted from raw.transactions group by chunk_seq)
    order by chunk_seq
"""
PAST_PAIRS = """
    insert into merchant_customers by name
    select
        merchant, customer, count(*) as transactions, sum(amount) as amount, min(chunk_seq) as first_chunk_seq,
        min(chunk_seq) filter (gender = 'F') as first_female_chunk_seq,
        min(chunk_seq) filter (gender = 'M') as first_male_chunk_seq,
        max(chunk_seq) as last_chunk_seq
    from raw.transactions
    group by merchant, customer
"""
PAST_MERCHANTS = """
    insert into merchants by name
    select
        merchant, sum(transactions) as transactions, sum(amount) as amount, count(*) as customers,
        count(first_female_chunk_seq) as female_customers, count(first_male_chunk_seq) as male_customers,
        max(last_chunk_seq) as last_chunk_seq
    from merchant_customers
    group by merchant
"""
PAST_COUNTS = """
    insert into customers_by_transactions by name
    select merchant, transactions, count(*) as customers, max(last_chunk_seq) as last_chunk_seq
    from merchant_customers
    group by merchant, transactions
"""


def make_past(root: Path, rows: int, customers: int, merchants: int) -> int:
    """A warehouse with so many past rows of the same customers and merchants; returns its number of chunks."""
    settings, store = settings_of(root), FolderStore(root)
    importance = root / "input/customers/customer_importance.csv"
    importance.parent.mkdir(parents=True)
    with importance.open("w") as file:
        file.write("Source,Target,Weight,typeTrans,fraud\n")
        for merchant in range(merchants):
            file.writelines(f"C{c},M{merchant},{c * 7 % 1009},es_food,0\n" for c in range(0, customers, 3))
    load_chunks(settings, store, objects=[])
    build_models(settings)
    export_detections(settings, store)
    with connect(settings) as warehouse:
        warehouse.execute("set enable_progress_bar = false")
        warehouse.execute(VISITS, {"customers": customers, "merchants": merchants})
        visits = warehouse.execute("select count(*) from visits").fetchone()[0]
        warehouse.execute(PAST_ROWS, {"rows": rows, "visits": visits, "chunk_rows": CHUNK_ROWS})
        for statement in (PAST_CHUNKS, PAST_PAIRS, PAST_MERCHANTS, PAST_COUNTS):
            warehouse.execute(statement)
        warehouse.execute("insert into output.releases select max(chunk_seq), now() at time zone 'UTC' from raw.chunks")
        ledger.create_ledger_views(warehouse, settings.limits)
        ledger.update_index(settings, warehouse, ())
        return warehouse.execute("select max(chunk_seq) from raw.chunks").fetchone()[0]


def put_rows(root: Path, number: int, customers: int, merchants: int) -> None:
    """Let a chunk of 10,000 rows of these customers and merchants land; the same one for the same number."""
    chance = random.Random(number)
    lines = [HEADER]
    for _ in range(CHUNK_ROWS):
        customer = chance.randrange(customers)
        gender = "MF"[customer % 2 == 0]
        lines.append(
            f"0,'C{customer}','2','{gender}','28007','M{chance.randrange(merchants)}','28007','es_food',"
            f"{chance.randrange(25, 125)}.5,0"
        )
    put_chunk(root, number, ("\n".join(lines) + "\n").encode())
