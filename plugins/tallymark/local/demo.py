"""The local stacks that people start: ``make demo``, ``make up`` and ``make down`` in the README."""

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
    """Run the feed and the pipeline until the source is used up, and print a summary.

    Args:
        data: folder with transactions.csv(.gz); None: generated data.

    Returns:
        Whether every chunk was accepted, and every detection is in its file.

    Raises:
        UserError: when the data or a setting cannot be used, or a part of the stack fails.
    """
    source, root = _check(data), LOCAL / "demo"
    if root.exists():
        print(f"This demo replaces the last one in {root}.", flush=True)
        stop(root)
        shutil.rmtree(root)
    stack = new_stack(root, source)
    with open_source(stack.source) as file:
        rows = sum(1 for _ in file) - 1
    expected = -(-rows // stack.settings.feed_chunk_rows)
    print(f"Starting an S3 server and Airflow; {expected} chunks to come. Logs: {root / 'logs'}", flush=True)
    with running(stack) as processes:
        print(f"Airflow: {stack.ui_url}  (user admin, password {stack.password})", flush=True)
        _watch(stack, processes, expected, show)
        durations = airflow_api.task_seconds(stack.ui_url, stack.password)
    problems = summary.problems(stack.settings, stack.bucket_folder, expected)
    print(summary.report(stack.settings, stack.bucket_folder, durations), flush=True)
    for problem in problems:
        print(f"WRONG: {problem}", flush=True)
    return not problems


def _check(data: Path | None) -> Path | None:
    """Check settings and data before anything is touched; returns the file of transactions."""
    isolate_this_process()
    Settings()
    return find_source(data) if data else None


def _watch(stack: Stack, processes: Processes, expected: int, show: Show) -> None:
    """Show progress until every chunk has been processed.

    Raises:
        StackError: when a process ended, or nothing changed for STALL_TIMEOUT_SECONDS.
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
                f"No progress for {STALL_TIMEOUT_SECONDS} s: see the task logs in {stack.root / 'logs/tasks'}"
            )
        time.sleep(1)


def up(data: Path | None) -> None:
    """Start a stack that stays, and print its addresses; one that already runs is left alone."""
    source, root = _check(data), LOCAL / "up"
    state = root / "processes.json"
    if left := processes_of(root):
        before = json.loads(state.read_text()) if state.exists() else {"pids": [0]}
        if {process.pid for process in left} >= set(before["pids"]):
            print(f"Already running: {before['addresses']}")
            return
        print("Parts of the stack have ended: the others are stopped, and all of it is started again.", flush=True)
        stop(root)
    stack = new_stack(root, source)
    print("Starting an S3 server and Airflow, which takes half a minute ...", flush=True)
    processes = start(stack)
    # The feed is not among those that must run: it ends when its source is used up.
    pids = [process.pid for process in processes.values()]
    start_feed(stack, processes)
    addresses = (
        f"Airflow {stack.ui_url} (user admin, password {stack.password}); "
        f"S3 {stack.s3_url} (key {stack.access_key}, secret {stack.secret_key}), bucket {stack.settings.bucket}"
    )
    state.touch(0o600)
    state.write_text(json.dumps({"addresses": addresses, "pids": pids}))
    files = stack.bucket_folder / stack.settings.output_prefix / "detections"
    print(f"{addresses}\nWhat it finds, and why: {stack.ui_url}/plugin/detections")
    print(f"Detection files: {files}\n  once there are any: tail -n 3 {files}/*")
    print(f"Warehouse: {stack.settings.warehouse}\n  open it with DuckDB; while it is open there, the stream waits")
    print(f"The stream is running. Logs: {root / 'logs'}. Stop it with: make down", flush=True)


def down() -> None:
    """Stop the stack that ``up`` started; its data stays."""
    root = LOCAL / "up"
    if not processes_of(root):
        print("Not running.")
        return
    print("Stopping ...", flush=True)
    stop(root)
    print(f"Stopped. Data stays in {root}; delete that folder to start from nothing.")
