"""Kills the working process again and again: the detections stay the same, each in exactly one file.

``make test-faults`` kills more often, also at random moments, and writes docs/reliability/crashes.md.
"""

import os
import random
import time
from collections import Counter

import pytest
from support import crash, figures
from support.killed_stream import Stream

RANDOM_KILLS = int(os.environ.get("TALLYMARK_KILLS", 8))
NUMBERS = {
    "object fetched": (1, 2),
    "file put, not recorded": (1, 2, 3, 4),
    "some files recorded, not others": (2, 3, 4),
    # More than a build has nodes, so the last ones are not reached.
    crash.BETWEEN_NODES: range(1, 100, 1 if figures.WANTED else 5),
}
HITS = {point: NUMBERS.get(point, (1,)) for point in crash.POINTS}
EVERY_HIT = [(point, hit) for point, hits in HITS.items() for hit in hits]
ONE_HIT = [(point, hits[1] if len(hits) > 1 else hits[0]) for point, hits in HITS.items()]
FEWEST_NODES = 17
KILLS: Counter[str] = Counter()


@pytest.fixture
def stream(tmp_path, processes) -> Stream:
    return Stream(tmp_path, processes)


@pytest.mark.parametrize(
    "points", [pytest.param(EVERY_HIT, marks=pytest.mark.system), pytest.param(ONE_HIT, id="one hit each")]
)
def test_killed_at_every_point(stream, points):
    """Two chunks land before each kill, so that every point is reached at least once."""
    for point, hit in points:
        stream.land()
        stream.land()
        if not stream.end(stream.start(point, hit)):
            assert point == crash.BETWEEN_NODES and hit > FEWEST_NODES, f"{point} was not reached (hit {hit})"
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

Written by `make test-faults`. The process that loads, builds and exports was killed with SIGKILL {sum(KILLS.values())}
times, as listed below. The next process continued each time. At the end, the detection files had the same rows as an
undisturbed run, no row was missing or duplicated, no file had ever changed, and `make verify` and the audit found no
differences.
"""
    figures.write(request.session, "crashes", text, ("point", "kills"), sorted(KILLS.items()))
