"""What reaches into the interiors of Airflow, dbt and botocore to save time; README.md lists it.

``TALLYMARK_SPEEDUPS=false`` turns all of it off.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

log = logging.getLogger(__name__)


@contextmanager
def held(*speedups: Callable[[], AbstractContextManager]) -> Iterator[None]:
    """Use the speedups until the end. One whose library has changed is left out, with a warning."""
    with ExitStack() as stack:
        for speedup in speedups:
            try:
                stack.enter_context(speedup())
            except (AttributeError, ImportError) as error:
                log.warning("The speedup %s is off, because a library has changed: %s", speedup.__name__, error)
        yield
