"""The process that does the work is killed, again and again, and goes on: the same detections, each in one file.

``make test-faults`` kills at random moments too, more often, and writes the figures into docs/reliability/crashes.md.
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
