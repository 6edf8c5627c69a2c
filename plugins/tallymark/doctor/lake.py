"""Check Spark, if raw rows and state are stored there."""

from collections.abc import Iterator

from tallymark.doctor import Finding, Verdict
from tallymark.lake.on_spark import LakeError, OnSpark
from tallymark.settings import Settings


def check_lake(settings: Settings) -> Iterator[Finding]:
    """Check the connection, exact arithmetic and the permission to create Delta tables. Leaves nothing behind."""
    try:
        OnSpark(settings, None).check()
    except LakeError as error:
        yield Finding(Verdict.FAILS, settings.engine, str(error))
    else:
        yield Finding(Verdict.WORKS, settings.engine, "Spark answers, computes exactly and can create Delta tables")
