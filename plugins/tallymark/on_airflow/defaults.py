"""Settings that all DAGs share."""

from datetime import timedelta
from typing import Any

from tallymark.settings import Settings

# Has one slot. Tasks that write to the warehouse, or read all of it, need it.
WAREHOUSE_POOL = "warehouse"


def explain(context: dict[str, Any]) -> None:
    """Airflow callback after a failed try: end its log with what happened and what to do."""
    from tallymark.publish.report import explain_failure

    explain_failure(context.get("exception"))


def default_args(settings: Settings, **more: Any) -> dict[str, Any]:
    """Return the ``default_args`` of a DAG: those of all DAGs, and ``more`` for this one."""
    return {
        "owner": "tallymark",
        "pool": WAREHOUSE_POOL,
        "queue": settings.queue,
        "retries": 3,
        "retry_delay": timedelta(seconds=5),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(seconds=30),
        "on_retry_callback": explain,
        "on_failure_callback": explain,
        **more,
    }


def owner_links(settings: Settings) -> dict[str, str]:
    """Return the link for the DAGs' owner, if the settings have one."""
    return {"tallymark": settings.owner_link} if settings.owner_link else {}
