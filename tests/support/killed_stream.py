"""A stream replayed by a process that may be killed at a named point."""

import hashlib
import multiprocessing
import os
import signal
from pathlib import Path
from unittest.mock import patch

from support import crash
from support.four_chunks import VARS, rows_of, settings
from support.streams import detected, exported, write_chunk, write_importance
from tallymark.audit import audit
from tallymark.local.replay import replay
from tallymark.recovery.verify import verify
from tallymark.store.folder import FolderStore


class Stream:
    """Chunks that land one by one, and an output folder that processes replay them into until they are killed."""

    def __init__(self, folder: Path, processes: multiprocessing.context.ForkServerContext):
        self.data, self.out, self.processes = folder / "data", folder / "out", processes
        self.chunks = 0
        self.seen: dict[str, str] = {}
        write_importance(self.data, [(f"U{index}", "M3", str(9 - index)) for index in range(8)])
        (self.data / "input/transactions").mkdir()

    def land(self) -> None:
        self.chunks += 1
        write_chunk(self.data, f"chunk_{self.chunks}", rows_of(self.chunks))

    def start(self, point: str | None = None, hit: int = 1) -> multiprocessing.Process:
        process = self.processes.Process(
            target=crash.run, args=(self.data, self.out, VARS, point, hit, dict(os.environ))
        )
        process.start()
        return process

    def end(self, process: multiprocessing.Process) -> bool:
        """Wait for a process to end, assert that no output file changed, and return whether the process was killed."""
        process.join(600)
        files = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for folder in ("detections", "rejected")
            for path in (self.out / "output" / folder).glob("[!.]*")
        }
        assert files.items() >= self.seen.items()
        self.seen = files
        assert process.exitcode in (0, -signal.SIGKILL)
        return process.exitcode != 0

    def must_be_as_if_undisturbed(self) -> None:
        assert not self.end(self.start())
        undisturbed = self.out.with_name("undisturbed")
        with patch.dict(os.environ, TALLYMARK_ENGINE="duckdb"):
            replay(self.data, undisturbed, batch=5, vars=VARS)
        assert detected(self.out) == detected(undisturbed)
        assert exported(self.out) == exported(undisturbed)
        assert len(exported(self.out)) > 40 * self.chunks
        store = FolderStore(self.data, target=self.out)
        assert verify(store, settings(self.out).output_prefix)["rows"] == len(exported(self.out))
        audit(settings(self.out), store)
