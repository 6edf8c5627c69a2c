"""The priority of a backtest beside a stream."""

import os
from multiprocessing import get_context

from tallymark.backtest.priority import LOWEST, lowest_priority


def nice_values() -> list[int]:
    """Of this thread, and of the executor's."""
    with lowest_priority() as usual:
        return [os.nice(0), usual.submit(os.nice, 0).result()]


def test_only_reader_keeps_its_priority():
    with get_context("spawn").Pool(1) as pool:
        assert pool.apply(nice_values) == [LOWEST, os.nice(0)]
