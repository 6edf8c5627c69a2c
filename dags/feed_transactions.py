"""
### A stand-in for the system that produces transactions (Mechanism X)

Puts the next 10,000 rows of a source file into the bucket as the next chunk, once a second, until the file is used
up. Triggered again, it goes on behind the last chunk in the bucket. The DAG is only there when
`TALLYMARK_FEED_SOURCE` names a file, as in the demo: in production, chunks come from somebody else.
"""

from datetime import datetime

from airflow.sdk import dag, task
from tallymark.on_airflow.bucket import open_bucket
from tallymark.on_airflow.defaults import DEFAULT_ARGS
from tallymark.settings import Settings

SETTINGS = Settings()


@dag(
    schedule=None,
    start_date=datetime(2024, 1, 1),
    catchup=False,
    max_active_runs=1,
    description="A stand-in that puts a chunk of transactions into the bucket every second.",
    doc_md=__doc__,
    tags=["tallymark", "stand-in"],
    default_args=DEFAULT_ARGS | {"pool": "default_pool"},
)
def feed_transactions():
    @task(doc_md="Puts one chunk a second until the source is used up.")
    def feed() -> int:
        from tallymark.local import feed

        return feed.feed_transactions(SETTINGS, open_bucket(SETTINGS))

    feed()


if SETTINGS.feed_source:
    feed_transactions()
