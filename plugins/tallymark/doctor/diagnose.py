"""Run all checks: settings, the warehouse's folder, the connection and the bucket."""

import os
from collections.abc import Generator, Iterator

from tallymark.doctor import Finding, Verdict
from tallymark.doctor.bucket import check_bucket
from tallymark.doctor.lake import check_lake
from tallymark.doctor.warehouse import check_warehouse
from tallymark.settings import Settings, SettingsError
from tallymark.store.s3 import S3Store


def diagnose() -> Iterator[Finding]:
    """Run all checks and yield their findings, in the order in which they are printed."""
    try:
        settings = Settings()
    except SettingsError as error:
        for line in str(error).splitlines():
            yield Finding(Verdict.FAILS, "settings", line)
        return
    yield Finding(
        Verdict.WORKS,
        "settings",
        f"bucket {settings.bucket}; prefixes: chunks {settings.transactions_prefix!r}, customer importance "
        f"{settings.customers_prefix!r}, output {settings.output_prefix!r}",
    )
    yield from check_warehouse(settings)
    if settings.engine != "duckdb":
        yield from check_lake(settings)
    store = yield from _connect(settings)
    if store:
        yield from check_bucket(settings, store)


def _connect(settings: Settings) -> Generator[Finding, None, S3Store | None]:
    """Check the connection; return the store, or None if the connection is invalid."""
    # Airflow is needed for its connection only. Its log lines would appear between the findings.
    os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "ERROR")
    from tallymark.on_airflow.bucket import has_connection, open_bucket

    try:
        found, store = has_connection(settings), open_bucket(settings)
    except Exception as error:
        # boto3 and Airflow raise many types of errors for invalid values.
        yield Finding(
            Verdict.FAILS,
            "connection",
            f"the Airflow connection {settings.aws_conn_id} cannot be used ({type(error).__name__}: {error}). "
            "docs/s3-stores.md has an example.",
        )
        return None
    meta, name = store.client.meta, settings.aws_conn_id
    if not found and (variable := f"AIRFLOW_CONN_{name.upper()}") in os.environ:
        yield Finding(
            Verdict.FAILS,
            "connection",
            f"{variable} is not a valid Airflow connection. Write it as JSON; docs/s3-stores.md has an example.",
        )
        return None
    where = f"{meta.endpoint_url}, region {meta.region_name}"
    if found:
        yield Finding(Verdict.WORKS, "connection", f"the Airflow connection {name} points to {where}")
    else:
        yield Finding(
            Verdict.FALLS_BACK,
            "connection",
            f"there is no Airflow connection {name}. boto3 looks for credentials itself and uses {where}",
        )
    return store
