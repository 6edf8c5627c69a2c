"""
### From a chunk in S3 to a file of detections (Mechanism Y)

| task | what it does |
| --- | --- |
| `wait_for_chunk` | pokes once a second, until the bucket holds a chunk that the ledger lacks |
| `load` | takes new chunks into the warehouse, each with its ledger row in one transaction |
| `build` | `dbt build`: state, patterns, detections and the sanity tests; if one fails, nothing goes out |
| `export` | writes new detections to S3, 50 rows to a file |

**When nothing lands** for 50 seconds the other tasks have nothing to do, and the run ends. That is normal. Runs with
work have a note that says what they did.

**When it is late** look at the duration of `build` and at how many chunks `load` took in one run: it takes all
that wait (at most `TALLYMARK_MAX_CHUNKS_PER_RUN`), so a run after a pause is longer and the next one normal again.

**When it is red** read the log of the red task; it says which chunk, model or test failed and what to do.
Nothing is lost: the next run goes on where this one stopped, and detections are exported exactly once.
Clearing a task, or the whole run, is safe at any time.

**Triggered by hand** it takes two parameters: how many chunks at most, and whether to stay dry, which loads, builds
and tests but exports nothing; the next run exports what a dry one held back.

**What it found** is on the page Detections, in the log of `export`, and in the note of the run. Other DAGs can be
scheduled on the asset `detections`, which has an event for each run that wrote files.
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
# Through an alias, as an asset that is an outlet itself has an event for each run, files or not.
NEW_DETECTIONS = AssetAlias(name="new detections")
PARAMS = {
    "max_chunks": Param(
        SETTINGS.max_chunks_per_run,
        type="integer",
        minimum=1,
        maximum=100_000,
        title="Chunks at most",
        description="How many of the waiting chunks this run takes; the next one takes the rest.",
    ),
    "dry_run": Param(
        False,
        type="boolean",
        title="Dry run",
        description="Load, build and test, and log the detections, but export nothing. The next run exports them.",
    ),
}


def _is_there_work(files: list[dict], **context) -> bool:
    from tallymark.intake.listing import has_newly_ignored, waiting_chunks
    from tallymark.store import StoredObject
    from tallymark.warehouse.ledger_index import LedgerIndex

    objects = [StoredObject.from_listing(file) for file in files]
    return (
        bool(waiting_chunks(SETTINGS, objects))
        or LedgerIndex(SETTINGS.warehouse, SETTINGS.limits).has_unfinished_work()
        or has_newly_ignored(SETTINGS, objects)
    )


def _tell_of_failure(context) -> None:
    from tallymark.on_airflow.notify import send
    from tallymark.publish.alerts import Alerts

    Alerts(SETTINGS, send).run_failed(context["run_id"], context["ti"].task_id, context.get("exception"))


@dag(
    schedule=SETTINGS.schedule,
    start_date=datetime(2024, 1, 1),
    catchup=False,
    max_active_runs=1,
    description="From a chunk of transactions in S3 to a file of detections.",
    doc_md=__doc__,
    tags=["tallymark"],
    owner_links=owner_links(SETTINGS),
    params=PARAMS,
    default_args=default_args(SETTINGS, on_failure_callback=[_tell_of_failure, explain]),
)
def detect_patterns():
    wait_for_chunk = ChunkSensor(
        task_id="wait_for_chunk",
        bucket_name=SETTINGS.bucket,
        bucket_key=f"{SETTINGS.transactions_prefix}*",
        wildcard_match=True,
        metadata_keys=["Key", "ETag", "Size", "LastModified"],
        check_fn=_is_there_work,
        aws_conn_id=SETTINGS.aws_conn_id,
        poke_interval=POKE_SECONDS,
        timeout=GIVE_UP_SECONDS,
        mode="poke",
        pool="default_pool",
        retries=2,
        doc_md="Waits for a chunk that the ledger lacks, or for something that an earlier run left unfinished. "
        "Returns whether there is any such work.",
    )

    @task(multiple_outputs=False, doc_md="Takes new chunks into the warehouse, in natural order of their keys.")
    def load(is_there_work: bool | None, params=None) -> dict | None:
        from tallymark.on_airflow.notify import send
        from tallymark.pipeline.load import load_chunks
        from tallymark.publish.alerts import Alerts

        # None, if somebody marked the sensor as a success by hand.
        if is_there_work is False:
            Alerts(SETTINGS, send).nothing_landed()
            return None
        return load_chunks(SETTINGS, open_bucket(SETTINGS), max_chunks=params["max_chunks"])

    @task(multiple_outputs=False, doc_md="Runs dbt build. A failing sanity test holds the export back.")
    def build(loaded: dict | None) -> dict | None:
        from tallymark.on_airflow.engine import use_connection
        from tallymark.pipeline.build import build_models

        use_connection(SETTINGS)
        staging = open_bucket(SETTINGS) if SETTINGS.lake_staging else None
        return None if loaded is None else build_models(SETTINGS, store=staging)

    @task(
        multiple_outputs=False,
        doc_md="Writes the new detections to S3, 50 rows to a file, each exactly once; then the page follows.",
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
            raise AirflowSkipException("Dry run: nothing was exported. The next run exports what this one found.")
        exported, put = export_and_report(SETTINGS, open_bucket(SETTINGS), send, since=dag_run.start_date)
        if put.keys:
            extra = {"detections": put.detections, "files": put.keys}
            outlet_events[NEW_DETECTIONS].add(DETECTIONS, extra=extra)
        return exported

    export(build(load(wait_for_chunk.output)))


detect_patterns()
