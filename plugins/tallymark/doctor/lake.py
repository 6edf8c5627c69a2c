"""Spark, where raw rows and state are not in the warehouse: does it answer, and can it be used?"""

from collections.abc import Iterator

from tallymark.doctor import Finding, Verdict
from tallymark.lake.on_spark import LakeError, OnSpark
from tallymark.settings import Settings


def check_lake(settings: Settings) -> Iterator[Finding]:
    """Check the connection, exact arithmetic, and the right to create Delta tables; leaves nothing behind."""
    try:
        OnSpark(settings, None).check()
    except LakeError as error:
        yield Finding(Verdict.FAILS, settings.engine, str(error))
    else:
        yield Finding(Verdict.WORKS, settings.engine, "it answers, computes exactly, and Delta tables can be created")
