"""Backtests give way to the stream."""

import os
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager

LOWEST = 19


@contextmanager
def lowest_priority() -> Iterator[Executor]:
    """Give this thread, and those that it starts, the lowest priority for the rest of the process.

    Yields:
        An executor whose one thread keeps its priority: for short work during which the stream waits.
    """
    with ThreadPoolExecutor(max_workers=1) as usual:
        # Linux keeps a nice value per thread. The executor starts its thread with the first call.
        usual.submit(os.getpid).result()
        os.nice(LOWEST)
        yield usual
