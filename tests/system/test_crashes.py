"""The process that does the work is killed, again and again, and goes on: the same detections, each in one file.

``make test-faults`` kills at random moments too, more often, and writes the figures into docs/reliability/crashes.md.
"""

import hashlib
import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from support import crash, figures
from support.four_chunks import VARS, rows_of, settings
from support.streams import detected, exported, write_chunk, write_importance
from tallymark.audit import audit
from tallymark.local.replay import replay
from tallymark.recovery.verify import verify
from tallymark.store.folder import FolderStore

RANDOM_KILLS = int(os.environ.get("TALLYMARK_KILLS", 8))
NUMBERS = {
    "object fetched": (1, 2),
    "file put, not noted": (1, 2, 3, 4),
    "some files noted, not others": (2, 3, 4),
    # More than a build has: the last one is not reached.
    crash.BETWEEN_NODES: range(1, 100, 1 if figures.WANTED else 5),
}
HITS = {point: NUMBERS.get(point, (1,)) for point in crash.POINTS}
EVERY_HIT = [(point, hit) for point, hits in HITS.items() for hit in hits]
ONE_HIT = [(point, hits[1] if len(hits) > 1 else hits[0]) for point, hits in HITS.items()]
FEWEST_NODES = 17
KILLS: Counter[str] = Counter()


class Stream:
    """Chunks that land one by one, and the folder into which a process that may be killed replays them."""

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
        process = self.processes.Process(target=crash.run, args=(self.data, self.out, VARS, point, hit))
        process.start()
        return process

    def end(self, process: multiprocessing.Process) -> bool:
        """Wait for it; returns whether it was killed. No detection file may have changed or gone."""
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
        replay(self.data, undisturbed, batch=5, vars=VARS)
        assert detected(self.out) == detected(undisturbed)
        assert exported(self.out) == exported(undisturbed)
        assert len(exported(self.out)) > 40 * self.chunks
        store = FolderStore(self.data, target=self.out)
        assert verify(store, settings(self.out).output_prefix)["rows"] == len(exported(self.out))
        audit(settings(self.out), store)


@pytest.fixture
def stream(tmp_path, processes) -> Stream:
    return Stream(tmp_path, processes)


@pytest.mark.parametrize(
    "points", [pytest.param(EVERY_HIT, marks=pytest.mark.system), pytest.param(ONE_HIT, id="one hit each")]
)
def test_killed_at_every_point(stream, points):
    """Each time two chunks have landed, so that every point is reached once at least."""
    for point, hit in points:
        stream.land()
        stream.land()
        if not stream.end(stream.start(point, hit)):
            assert point == crash.BETWEEN_NODES and hit > FEWEST_NODES, f"{point}, time {hit}: was not reached"
            break
        KILLS[point] += 1
    stream.must_be_as_if_undisturbed()


@pytest.mark.system
def test_killed_at_random_moments(stream):
    chance = random.Random(1)
    stream.land()
    stream.land()
    while KILLS["at a random moment"] < RANDOM_KILLS:
        process = stream.start()
        time.sleep(chance.uniform(0, 1.5))
        process.kill()
        if stream.end(process):
            KILLS["at a random moment"] += 1
        stream.land()
    stream.must_be_as_if_undisturbed()


def test_write_figures(request):
    text = f"""
# Kills survived

Written by `make test-faults`: how often the process was killed with SIGKILL that loads, builds and exports, and where.
It went on each time. In the end the detection files held the rows of an undisturbed run, none missing and none twice,
no file had ever changed, `make verify` and the audit found nothing wrong. {sum(KILLS.values())} kills in all.
"""
    figures.write(request.session, "crashes", text, ("where", "times"), sorted(KILLS.items()))
