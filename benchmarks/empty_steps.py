"""A DAG with the shape of detect_patterns and empty steps, to measure the cost of Airflow alone.

For each chunk that the run found, the last step appends a line with its key and the time to the file ``done``.
"""

import os
import time
from datetime import datetime
from pathlib import Path

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.sdk import dag, task

DONE, FOUND = (Path(os.environ["BENCH_ROOT"]) / name for name in ("done", "found"))


@dag(schedule="@continuous", start_date=datetime(2024, 1, 1), catchup=False, max_active_runs=1)
def empty_steps():
    @task.sensor(poke_interval=1, timeout=50, soft_fail=True)
    def wait_for_chunk() -> bool:
        keys = S3Hook().list_keys(os.environ["BENCH_BUCKET"], prefix="input/transactions/chunk_")
        found = set(keys or ()) - {line.split()[0] for line in DONE.read_text().splitlines()}
        FOUND.write_text("\n".join(sorted(found)))
        return bool(found)

    @task
    def nothing() -> None:
        pass

    @task
    def export() -> None:
        with DONE.open("a") as done:
            done.writelines(f"{key} {time.time()}\n" for key in FOUND.read_text().splitlines())

    wait_for_chunk() >> nothing.override(task_id="load")() >> nothing.override(task_id="build")() >> export()


empty_steps()
