"""A DAG of the shape of detect_patterns whose steps do nothing but note the time: what Airflow alone costs.

It is the only DAG of a stack whose root ``BENCHMARK_ROOT`` names.
"""

import json
import os
import time
from datetime import datetime
from pathlib import Path

from airflow.providers.amazon.aws.sensors.s3 import S3KeySensor
from airflow.sdk import dag, task

ROOT = Path(os.environ["BENCHMARK_ROOT"])
NOTED, FOUND = ROOT / "noted.json", ROOT / "found.json"


def noted() -> dict[str, float]:
    return json.loads(NOTED.read_text()) if NOTED.exists() else {}


def is_news(files: list[dict], **_) -> bool:
    found = sorted({file["Key"] for file in files} - noted().keys())
    FOUND.write_text(json.dumps(found))
    return bool(found)


@dag(schedule="@continuous", start_date=datetime(2024, 1, 1), catchup=False, max_active_runs=1)
def empty_steps():
    wait_for_chunk = S3KeySensor(
        task_id="wait_for_chunk",
        bucket_name=os.environ["BENCHMARK_BUCKET"],
        bucket_key="input/transactions/chunk_*",
        wildcard_match=True,
        metadata_keys=["Key"],
        check_fn=is_news,
        poke_interval=1,
        timeout=50,
        soft_fail=True,
    )

    @task
    def load() -> None:
        pass

    @task
    def build() -> None:
        pass

    @task
    def export() -> None:
        now = time.time()
        NOTED.write_text(json.dumps(noted() | dict.fromkeys(json.loads(FOUND.read_text()), now)))

    wait_for_chunk >> load() >> build() >> export()


empty_steps()
