"""Speedups of dbt commands: fewer events and less parsing."""

import logging
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any
from unittest.mock import patch

from tallymark.speedups import held

log = logging.getLogger(__name__)


def quick_dbt(is_on: bool) -> AbstractContextManager:
    """Turn the speedups of a dbt command on until the end, if ``is_on``."""
    return held(*(only_warnings, inject_once, no_plugins) if is_on else ())


def only_warnings() -> AbstractContextManager:
    """Drop events below the warning level before dbt formats them."""
    from dbt_common.events.base_types import EventLevel
    from dbt_common.events.event_manager import EventManager

    fire_event = EventManager.fire_event

    def fire_warning(
        self: Any, e: Any, level: Any = None, node: Any = None, force_warn_or_error_handling: bool = False
    ) -> None:
        if force_warn_or_error_handling or (level or e.level_tag()) in (EventLevel.WARN, EventLevel.ERROR):
            fire_event(self, e, level, node, force_warn_or_error_handling)

    return patch.object(EventManager, "fire_event", fire_warning)


def inject_once() -> AbstractContextManager:
    """Cache the SQL of nodes with injected ephemeral models. Otherwise, dbt parses that SQL in each build."""
    from dbt import compilation

    inject = compilation.inject_ctes_into_sql
    return patch.object(
        compilation,
        "inject_ctes_into_sql",
        lambda sql, ctes: _injected(inject, compilation.InjectedCTE, sql, tuple((cte.id, cte.sql) for cte in ctes)),
    )


@lru_cache
def _injected(inject: Any, make: Any, sql: str, ctes: tuple[tuple[str, str], ...]) -> str:
    return inject(sql, [make(*cte) for cte in ctes])


def no_plugins() -> AbstractContextManager:
    """Prevent dbt's plugin search from importing every module on the path whose name starts with ``dbt_``."""
    from dbt.plugins.manager import PluginManager

    return patch.object(PluginManager, "get_prefixed_modules", dict)


def make_reusable(manifest: Any, with_ephemeral: bool = False) -> bool:
    """Reset a manifest after a command, so that another command can use it. Returns False if that is impossible.

    Without the reset, dbt compiles each node again, but assumes that its ephemeral models are already injected.

    Args:
        with_ephemeral: whether dbt compiles ephemeral models again, which is needed if the vars have changed.
    """
    nodes = [node for node in manifest.nodes.values() if with_ephemeral or not node.is_ephemeral_model]
    if not all(hasattr(node, "extra_ctes") and hasattr(node, "extra_ctes_injected") for node in nodes):
        log.warning("dbt parses the project for each command, because the nodes of its manifest have changed")
        return False
    for node in nodes:
        node.extra_ctes, node.extra_ctes_injected = [], False
    return True
