"""
### Is everything that was kept and exported what the raw rows say?

Once a day, and whenever it is triggered by hand: `audit` recomputes state and detections from all raw rows by a
second way, in one pass and without incremental state, at every chunk boundary. It compares them with the state, the
detections and the detection files in the bucket. It changes nothing.

**When it is red** its log names each difference with its rows. Nothing is repaired by itself: what was exported is a
fact that somebody may have acted upon. *only in the warehouse* is kept and does not follow from the raw rows, *only
in the raw rows* follows and is not kept.

**It is slow**: it reads the whole history, and no chunk is processed meanwhile, as it needs the warehouse.
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
    description="Recomputes everything from the raw rows and compares it with what was kept and exported.",
    doc_md=__doc__,
    tags=["tallymark"],
    owner_links=owner_links(SETTINGS),
    default_args=default_args(SETTINGS, retry_delay=timedelta(seconds=30)),
)
def audit_patterns():
    @task(doc_md="Recomputes everything and compares. A difference is final; only an outage is tried again.")
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
