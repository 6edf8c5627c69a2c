"""
### What would other thresholds have detected?

Trigger it by hand with the thresholds to try. It runs the production models over the raw rows of the history, in a
warehouse of its own, and compares what they detect with what was detected. The answer is on the page Detections, under
*What if*, and in the bucket.

**What it leaves alone:** the live warehouse, the ledger and the detection files. The stream goes on meanwhile; it
waits for moments, while rows are copied.

**Thresholds** that you leave as they are in the form stay what they were for each chunk, also where they were changed
in between. **Chunks** are named by their key, or by its last part.

**How long it takes** is the first line of the log of `backtest`; later lines say how far it is.
`TALLYMARK_BACKTEST_SECONDS` and `TALLYMARK_BACKTEST_BYTES` limit it.
"""

from datetime import datetime, timedelta

from airflow.sdk import Param, dag, task
from airflow.sdk.exceptions import AirflowFailException
from tallymark.on_airflow.bucket import open_bucket
from tallymark.on_airflow.defaults import default_args, owner_links
from tallymark.on_airflow.threshold_form import changed, threshold_params
from tallymark.settings import Settings

SETTINGS = Settings()
PARAMS = threshold_params(SETTINGS.vars) | {
    "first_chunk": Param(
        None,
        type=["null", "string"],
        title="First chunk",
        description="The thresholds above decide from this chunk on. Empty: on all chunks.",
    ),
    "last_chunk": Param(
        None,
        type=["null", "string"],
        title="Last chunk",
        description="Later chunks are not looked at. Empty: the last one that was exported.",
    ),
}


@dag(
    schedule=None,
    start_date=datetime(2024, 1, 1),
    catchup=False,
    max_active_runs=2,
    description="Compares what other thresholds would have detected with what was detected.",
    doc_md=__doc__,
    tags=["tallymark"],
    owner_links=owner_links(SETTINGS),
    params=PARAMS,
    default_args=default_args(
        SETTINGS, pool="default_pool", execution_timeout=timedelta(seconds=1.5 * SETTINGS.backtest_seconds)
    ),
)
def backtest_patterns():
    @task(
        multiple_outputs=False,
        doc_md="Runs the models over the history under the thresholds of the form, and saves the comparison.",
    )
    def backtest(params=None) -> dict:
        from tallymark.backtest.plan import BacktestError, plan
        from tallymark.backtest.priority import lowest_priority
        from tallymark.backtest.run import backtest
        from tallymark.on_airflow.engine import use_connection
        from tallymark.progress import logged

        use_connection(SETTINGS)
        try:
            with lowest_priority() as reader:
                chunks = [params[name] or "" for name in ("first_chunk", "last_chunk")]
                tried = plan(SETTINGS, changed(params, SETTINGS.vars), *chunks)
                summary = backtest(SETTINGS, open_bucket(SETTINGS), tried, logged, reader)
        except BacktestError as error:
            raise AirflowFailException(str(error)) from error
        return {name: summary[name] for name in ("name", "vars", "totals")}

    backtest()


backtest_patterns()
