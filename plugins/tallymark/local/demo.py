"""The ``make demo``, ``make up`` and ``make down`` commands."""

import json
import shutil
import time
from pathlib import Path

from tallymark.local import airflow_api, summary
from tallymark.local.feed import find_source, open_source
from tallymark.local.isolation import isolate_this_process
from tallymark.local.processes import processes_of, stop
from tallymark.local.stack import Processes, Stack, StackError, check_alive, new_stack, running, start, start_feed
from tallymark.progress import Show
from tallymark.settings import PROJECT_ROOT, Settings

LOCAL = PROJECT_ROOT / ".local"
# A build on Spark takes minutes on a busy machine.
STALL_TIMEOUT_SECONDS = 600


def demo(data: Path | None, show: Show) -> bool:
    """Run the feed and the pipeline until every chunk is processed, and print a summary.

    Args:
        data: folder with ``transactions.csv(.gz)``. None: generated data.

    Returns:
        Whether every chunk was accepted and every detection is in a file.

    Raises:
        UserError: when the data or a setting is invalid, or a part of the stack fails.
    """
    source, root = _check(data), LOCAL / "demo"
    if root.exists():
        print(f"Replacing the previous demo in {root}.", flush=True)
        stop(root)
        shutil.rmtree(root)
    stack = new_stack(root, source)
    with open_source(stack.source) as file:
        rows = sum(1 for _ in file) - 1
    expected = -(-rows // stack.settings.feed_chunk_rows)
    chunks = "1 chunk" if expected == 1 else f"{expected} chunks"
    print(f"Starting an S3 server and Airflow to process {chunks}. Logs: {root / 'logs'}", flush=True)
    with running(stack) as processes:
        print(f"Airflow: {stack.ui_url}  (user admin, password {stack.password})", flush=True)
        _watch(stack, processes, expected, show)
        durations = airflow_api.task_seconds(stack.ui_url, stack.password)
    problems = summary.problems(stack.settings, stack.bucket_folder, expected)
    print(summary.report(stack.settings, stack.bucket_folder, durations), flush=True)
    for problem in problems:
        print(f"PROBLEM: {problem}", flush=True)
    return not problems


def _check(data: Path | None) -> Path | None:
    """Check settings and data before anything is changed. Return the file of transactions, if any."""
    isolate_this_process()
    Settings()
    return find_source(data) if data else None


def _watch(stack: Stack, processes: Processes, expected: int, show: Show) -> None:
    """Show progress until every chunk has been processed.

    Raises:
        StackError: when a process ends, or nothing changes for STALL_TIMEOUT_SECONDS.
    """
    before, moved_at = None, time.monotonic()
    while True:
        check_alive(stack, processes)
        now = summary.progress(stack.settings, stack.bucket)
        if now != before:
            before, moved_at = now, time.monotonic()
            landed = f"chunks landed {now.landed:3d} of {expected}, loaded {now.loaded:3d}"
            files = "1 file" if now.files == 1 else f"{now.files} files"
            show(now.loaded, expected, f"{landed}   detections {now.detections:4d} in {files}")
        if now.loaded >= expected and now.finished:
            return
        if time.monotonic() > moved_at + STALL_TIMEOUT_SECONDS:
            raise StackError(
                f"No progress for {STALL_TIMEOUT_SECONDS} s. See the task logs in {stack.root / 'logs/tasks'}"
            )
        time.sleep(1)


def up(data: Path | None) -> None:
    """Start a stack in the background and print its addresses, unless it is already running."""
    source, root = _check(data), LOCAL / "up"
    state = root / "processes.json"
    if left := processes_of(root):
        before = json.loads(state.read_text()) if state.exists() else {"pids": [0]}
        if {process.pid for process in left} >= set(before["pids"]):
            print(f"Already running: {before['addresses']}")
            return
        print("Parts of the stack have stopped. Restarting all of it.", flush=True)
        stop(root)
    stack = new_stack(root, source)
    print("Starting an S3 server and Airflow. This takes about half a minute ...", flush=True)
    processes = start(stack)
    # The feed is not included, because it ends after the last row.
    pids = [process.pid for process in processes.values()]
    start_feed(stack, processes)
    addresses = (
        f"Airflow {stack.ui_url} (user admin, password {stack.password}); "
        f"S3 {stack.s3_url} (key {stack.access_key}, secret {stack.secret_key}), bucket {stack.settings.bucket}"
    )
    state.touch(0o600)
    state.write_text(json.dumps({"addresses": addresses, "pids": pids}))
    files = stack.bucket_folder / stack.settings.output_prefix / "detections"
    print(f"{addresses}\nDetections page: {stack.ui_url}/plugin/detections")
    print(f"Detection files: {files}\n  To read them: tail -n 3 {files}/*")
    print(f"Warehouse: {stack.settings.warehouse}\n  You can open it with DuckDB. The stream waits while it is open.")
    print(f"The stream is running. Logs: {root / 'logs'}. To stop it: make down", flush=True)


def down() -> None:
    """Stop the stack that ``up`` started, and keep its data."""
    root = LOCAL / "up"
    if not processes_of(root):
        print("Not running.")
        return
    print("Stopping ...", flush=True)
    stop(root)
    print(f"Stopped. The data is kept in {root}. Delete this folder to start from scratch.")
