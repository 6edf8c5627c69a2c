"""
### Daily audit of state, detections and files

Recomputes state and detections from all raw rows with independent SQL: in one pass, without incremental state, at every
chunk boundary. Compares the result with the state, the detections, and the detection files in the bucket. Changes
nothing. Runs once a day; you can also trigger it by hand.

**Failed run:** the log names each difference with its rows. Nothing is repaired automatically, because somebody may
have acted on an exported detection.

| difference | meaning |
| --- | --- |
| *only in the warehouse* | The row is in the warehouse, but not in the recomputed result, or not in the named file. |
| *only in the raw rows* | The row follows from the raw rows, but is not in the warehouse. |
| *only in the file* | The row is in the named file, but not in the warehouse. |

**Duration:** the audit reads the whole history. Chunks wait meanwhile, because the audit needs the warehouse.
"""

from datetime import datetime, timedelta

from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowFailException
from tallymark.on_airflow.bucket import open_bucket
from tallymark.on_airflow.defaults import default_args, owner_links
from tallymark.settings import Settings

SETTINGS = Settings()


@dag(
    schedule=SETTINGS.audit_schedule,
    start_date=datetime(2024, 1, 1),
    catchup=False,
    max_active_runs=1,
    description="Recomputes everything from the raw rows, and compares it with the warehouse and the exported files.",
    doc_md=__doc__,
    tags=["tallymark"],
    owner_links=owner_links(SETTINGS),
    default_args=default_args(SETTINGS, retry_delay=timedelta(seconds=30)),
)
def audit_patterns():
    @task(doc_md="Recomputes everything and compares. A difference fails the task at once; an outage is retried.")
    def audit() -> dict:
        from tallymark.audit import AuditError, audit
        from tallymark.on_airflow.engine import use_connection

        use_connection(SETTINGS)
        try:
            return audit(SETTINGS, open_bucket(SETTINGS))
        except AuditError as error:
            raise AirflowFailException(str(error)) from error

    audit()


audit_patterns()
