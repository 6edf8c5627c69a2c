"""What the DAGs have in common."""

from datetime import timedelta
from typing import Any

from tallymark.settings import Settings

# Of one slot: whoever writes to the warehouse, or reads it all, takes it.
WAREHOUSE_POOL = "warehouse"


def explain(context: dict[str, Any]) -> None:
    """Callback of a try that failed: what happened and what to do are the last lines of its log."""
    from tallymark.publish.report import explain_failure

    explain_failure(context.get("exception"))


def default_args(settings: Settings, **more: Any) -> dict[str, Any]:
    """The arguments that all tasks have, and those that all tasks of one DAG have."""
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
    """The link behind the DAGs' owner, if one is set."""
    return {"tallymark": settings.owner_link} if settings.owner_link else {}
