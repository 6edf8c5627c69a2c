"""
### From chunks in S3 to detection files (Mechanism Y)

| task | what it does |
| --- | --- |
| `wait_for_chunk` | looks for new chunks in the bucket every second |
| `load` | loads new chunks into the warehouse, each with its ledger row in one transaction |
| `build` | runs `dbt build`: state, patterns, detections and sanity tests; if a test fails, nothing is exported |
| `export` | writes new detections to S3, 50 rows per file |

**No new chunks:** after 50 seconds, the run ends, and the other tasks do nothing. This is normal. Runs with work get a
note with their results.

**Slow run:** check the duration of `build`, and how many chunks `load` took. A run takes all waiting chunks (at most
`TALLYMARK_MAX_CHUNKS_PER_RUN`), so the first run after a pause takes longer.

**Failed run:** read the log of the failed task. It names the chunk, model or test, and says what to do. Nothing is
lost: the next run continues where this one stopped, and detections are exported exactly once. You can clear a task or
a whole run at any time.

**Manual run:** the form has two parameters: the maximum number of chunks, and a dry run, which loads, builds and tests
but exports nothing. The next run exports its detections.

**Results** are on the Detections page, in the log of `export`, and in the note of the run. To start your own DAG on new
detections, schedule it on the `detections` asset. Each run that writes files adds an event to it.
"""

from datetime import datetime

from airflow.sdk import Asset, AssetAlias, Param, dag, task
from airflow.sdk.exceptions import AirflowSkipException
from tallymark.on_airflow.bucket import ChunkSensor, open_bucket
from tallymark.on_airflow.defaults import default_args, explain, owner_links
from tallymark.settings import Settings

SETTINGS = Settings()
POKE_SECONDS = 1
GIVE_UP_SECONDS = 50
DETECTIONS = Asset(name="detections", uri=f"s3://{SETTINGS.bucket}/{SETTINGS.output_prefix}detections")
# An alias, because an asset that is itself an outlet gets an event for each run, even without files.
NEW_DETECTIONS = AssetAlias(name="new detections")
PARAMS = {
    "max_chunks": Param(
        SETTINGS.max_chunks_per_run,
        type="integer",
        minimum=1,
        maximum=100_000,
        title="Maximum number of chunks",
        description="This run takes at most this many of the waiting chunks. The next run takes the rest.",
    ),
    "dry_run": Param(
        False,
        type="boolean",
        title="Dry run",
        description="Load, build, test, and log the detections, but export nothing. The next run exports them.",
    ),
}


def _has_work(files: list[dict], **context) -> bool:
    from tallymark.intake.listing import has_newly_ignored, waiting_chunks
    from tallymark.store import StoredObject
    from tallymark.warehouse.ledger_index import LedgerIndex

    objects = [StoredObject.from_listing(file) for file in files]
    return (
        bool(waiting_chunks(SETTINGS, objects))
        or LedgerIndex(SETTINGS.warehouse, SETTINGS.limits).has_unfinished_work()
        or has_newly_ignored(SETTINGS, objects)
    )


def _alert_failure(context) -> None:
    from tallymark.on_airflow.notify import send
    from tallymark.publish.alerts import Alerts

    Alerts(SETTINGS, send).run_failed(context["run_id"], context["ti"].task_id, context.get("exception"))


@dag(
    schedule=SETTINGS.schedule,
    start_date=datetime(2024, 1, 1),
    catchup=False,
    max_active_runs=1,
    description="Loads new transactions from S3, detects patterns, and exports the detections.",
    doc_md=__doc__,
    tags=["tallymark"],
    owner_links=owner_links(SETTINGS),
    params=PARAMS,
    default_args=default_args(SETTINGS, on_failure_callback=[_alert_failure, explain]),
)
def detect_patterns():
    wait_for_chunk = ChunkSensor(
        task_id="wait_for_chunk",
        bucket_name=SETTINGS.bucket,
        bucket_key=f"{SETTINGS.transactions_prefix}*",
        wildcard_match=True,
        metadata_keys=["Key", "ETag", "Size", "LastModified"],
        check_fn=_has_work,
        aws_conn_id=SETTINGS.aws_conn_id,
        poke_interval=POKE_SECONDS,
        timeout=GIVE_UP_SECONDS,
        mode="poke",
        pool="default_pool",
        retries=2,
        doc_md="Waits for a new chunk, or finds unfinished work of an earlier run. Returns whether there is work.",
    )

    @task(multiple_outputs=False, doc_md="Loads new chunks into the warehouse, in natural order of their keys.")
    def load(has_work: bool | None, params=None) -> dict | None:
        from tallymark.on_airflow.notify import send
        from tallymark.pipeline.load import load_chunks
        from tallymark.publish.alerts import Alerts

        # None if somebody marked the sensor as successful by hand.
        if has_work is False:
            Alerts(SETTINGS, send).nothing_landed()
            return None
        return load_chunks(SETTINGS, open_bucket(SETTINGS), max_chunks=params["max_chunks"])

    @task(multiple_outputs=False, doc_md="Runs dbt build. If a sanity test fails, nothing is exported.")
    def build(loaded: dict | None) -> dict | None:
        from tallymark.on_airflow.engine import use_connection
        from tallymark.pipeline.build import build_models

        use_connection(SETTINGS)
        staging = open_bucket(SETTINGS) if SETTINGS.lake_staging else None
        return None if loaded is None else build_models(SETTINGS, store=staging)

    @task(
        multiple_outputs=False,
        doc_md="Writes new detections to S3, 50 rows per file, each exactly once. Then updates the Detections page.",
        outlets=[NEW_DETECTIONS],
    )
    def export(built: dict | None, params=None, dag_run=None, outlet_events=None) -> dict | None:
        from tallymark.on_airflow.notify import send
        from tallymark.pipeline.export import export_and_report
        from tallymark.publish.report import report_dry_run

        if built is None:
            return None
        if params["dry_run"]:
            report_dry_run(SETTINGS, dag_run.start_date)
            raise AirflowSkipException("Dry run: nothing was exported. The next run exports these detections.")
        exported, put = export_and_report(SETTINGS, open_bucket(SETTINGS), send, since=dag_run.start_date)
        if put.keys:
            extra = {"detections": put.detections, "files": put.keys}
            outlet_events[NEW_DETECTIONS].add(DETECTIONS, extra=extra)
        return exported

    export(build(load(wait_for_chunk.output)))


detect_patterns()
