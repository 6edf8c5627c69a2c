"""Optimizations that use private parts of Airflow, dbt and botocore. README.md lists them.

``TALLYMARK_SPEEDUPS=false`` turns all of them off.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

log = logging.getLogger(__name__)


@contextmanager
def held(*speedups: Callable[[], AbstractContextManager]) -> Iterator[None]:
    """Turn speedups on until the end. A speedup that does not fit the installed library is skipped with a warning."""
    with ExitStack() as stack:
        for speedup in speedups:
            try:
                stack.enter_context(speedup())
            except (AttributeError, ImportError) as error:
                log.warning("The %s speedup is off, because its library has changed: %s", speedup.__name__, error)
        yield
