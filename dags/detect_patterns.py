"""
### From a chunk in S3 to a file of detections (Mechanism Y)

| task | what it does |
| --- | --- |
| `wait_for_chunk` | pokes once a second, until the bucket holds a chunk that the ledger lacks |
| `load` | takes new chunks into the warehouse, each with its ledger row in one transaction |
| `build` | `dbt build`: state, patterns, detections and the sanity tests; if one fails, nothing goes out |
| `export` | writes new detections to S3, 50 rows to a file |

**When nothing lands** `wait_for_chunk` gives up after 50 seconds, and the run ends with skipped tasks. That is normal.

**When it is late** look at the duration of `build` and at how many chunks `load` took in one run: it takes all
that wait (at most `TALLYMARK_MAX_CHUNKS_PER_RUN`), so a run after a pause is longer and the next one normal again.

**When it is red** read the log of the red task; it says which chunk, model or test failed and what to do.
Nothing is lost: the next run goes on where this one stopped, and detections are exported exactly once.
Clearing a task, or the whole run, is safe at any time.
"""

from datetime import datetime, timedelta

from airflow.sdk import dag, task
from tallymark.bucket import ChunkSensor, open_bucket
from tallymark.settings import Settings

SETTINGS = Settings()
POKE_SECONDS = 1
GIVE_UP_SECONDS = 50
WAREHOUSE_POOL = "warehouse"


def _is_there_work(files: list[dict], **context) -> bool:
    from tallymark.steps import unfinished_work, waiting_chunks
    from tallymark.store import StoredObject

    waiting = waiting_chunks(SETTINGS, map(StoredObject.from_listing, files))
    return bool(waiting) or unfinished_work(SETTINGS)


@dag(
    schedule=SETTINGS.schedule,
    start_date=datetime(2024, 1, 1),
    catchup=False,
    max_active_runs=1,
    doc_md=__doc__,
    tags=["tallymark"],
    default_args={
        "owner": "tallymark",
        "pool": WAREHOUSE_POOL,
        "retries": 3,
        "retry_delay": timedelta(seconds=5),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(seconds=30),
    },
)
def detect_patterns():
    wait_for_chunk = ChunkSensor(
        task_id="wait_for_chunk",
        bucket_name=SETTINGS.bucket,
        bucket_key=f"{SETTINGS.transactions_prefix}chunk_*",
        wildcard_match=True,
        metadata_keys=["Key", "ETag", "Size", "LastModified"],
        check_fn=_is_there_work,
        aws_conn_id=SETTINGS.aws_conn_id,
        poke_interval=POKE_SECONDS,
        timeout=GIVE_UP_SECONDS,
        soft_fail=True,
        mode="poke",
        pool="default_pool",
        doc_md="Waits for a chunk that the ledger lacks, or for something that an earlier run left unfinished.",
    )

    @task(doc_md="Takes new chunks into the warehouse, in natural order of their keys.")
    def load() -> dict:
        from tallymark.steps import load_chunks

        return load_chunks(SETTINGS, open_bucket(SETTINGS))

    @task(doc_md="Runs dbt build. A failing sanity test holds the export back.")
    def build() -> None:
        from tallymark import steps

        steps.build(SETTINGS)

    @task(doc_md="Writes the new detections to S3, 50 rows to a file, each exactly once.")
    def export() -> dict:
        from tallymark.steps import export_detections

        return export_detections(SETTINGS, open_bucket(SETTINGS))

    wait_for_chunk >> load() >> build() >> export()


detect_patterns()
