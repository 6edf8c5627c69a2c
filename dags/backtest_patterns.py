"""
### What would other thresholds have detected?

Trigger this DAG by hand with the thresholds to try. It runs the production models over the history, in a separate
warehouse, and compares the result with the actual detections. The comparison is on the Detections page and in the
bucket.

**The stream is unaffected:** a backtest does not change the live warehouse, the ledger or the detection files. The
stream waits briefly whenever rows are copied.

**Thresholds** that you do not change in the form keep the value that they had at each chunk, even if they were changed
over time. **Chunks** are given by their key, by the last part of their key, or by their number in the ledger.

**Duration:** the log of `backtest` starts with an estimate and then shows the progress. `TALLYMARK_BACKTEST_SECONDS`
and `TALLYMARK_BACKTEST_BYTES` limit time and disk space.
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
        description="The thresholds above start at this chunk. Default: the first chunk of the history.",
    ),
    "last_chunk": Param(
        None,
        type=["null", "string"],
        title="Last chunk",
        description="The backtest ends at this chunk. Default: the last exported chunk.",
    ),
}


@dag(
    schedule=None,
    start_date=datetime(2024, 1, 1),
    catchup=False,
    max_active_runs=2,
    description="Compares what other thresholds would have detected with the actual detections.",
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
        doc_md="Runs the models over the history with the thresholds in the form, and saves the comparison.",
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
