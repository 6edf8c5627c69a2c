"""Run dbt commands in this process; starting dbt's own command line would take seconds longer."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from types import MappingProxyType
from typing import Any
from unittest.mock import patch

from tallymark import machine
from tallymark.errors import UserError
from tallymark.patterns import DBT_PROJECT
from tallymark.settings import Settings
from tallymark.speedups import dbt as speedups
from tallymark.warehouse.errors import errors_explained
from tallymark.warehouse.ledger_index import LedgerIndex
from tallymark.warehouse.lock import open_when_free

# Parsed projects, with the vars of their last command.
_parsed: dict[tuple[str, str, str], tuple[Any, Mapping[str, Any]]] = {}
NO_VARIABLES: Mapping[str, str] = MappingProxyType({})


class DbtError(UserError, RuntimeError):
    """dbt cannot read the project or set up the warehouse."""


def sanity_tests() -> set[str]:
    """Names of the project's sanity tests: SQL files in its ``tests`` folder, outside of ``audit`` and ``generic``."""
    folder = DBT_PROJECT / "tests"
    parts = (path.relative_to(folder).parts for path in folder.rglob("*.sql"))
    return {name.removesuffix(".sql") for *folders, name in parts if not {"audit", "generic"} & set(folders)}


def update_schema(settings: Settings) -> None:
    """Create or alter the tables that load and export write to, with dbt_project/macros/schema.sql.

    Raises:
        DbtError: if that fails, or if a newer Tallymark wrote the warehouse.
    """
    messages: list[str] = []
    result = invoke(settings, ["run-operation", "update_schema"], parse(settings), on_message=messages.append)
    if not result.success:
        why = result.exception or "\n".join(messages)
        raise _failed(settings, f"Failed to set up the warehouse {settings.warehouse}", why)


def parse(settings: Settings, target: str = "duckdb", environment: Mapping[str, str] = NO_VARIABLES) -> Any:
    """The parsed project, for one command. With speedups, this process caches it.

    The cache key includes the name of the warehouse's file, which dbt uses as the database name, and the environment,
    which on Spark has the build's schema. No model reads a var while dbt parses it.

    Raises:
        DbtError: if dbt cannot read the project.
    """
    cache_key = target, json.dumps(dict(environment), sort_keys=True), settings.warehouse.stem
    if settings.speedups and cache_key in _parsed:
        manifest, vars = _parsed[cache_key]
        if speedups.make_reusable(manifest, with_ephemeral=vars != settings.vars):
            _parsed[cache_key] = manifest, settings.vars
            return manifest
    result = invoke(settings, ["parse"], target=target, environment=environment)
    if not result.success:
        raise _failed(settings, "dbt cannot read the project", result.exception)
    if settings.speedups:
        _parsed[cache_key] = result.result, settings.vars
    return result.result


def _failed(settings: Settings, what: str, why: Exception | str) -> DbtError:
    return DbtError(machine.explain(why, settings.warehouse) or f"{what}: {why}")


def invoke(
    settings: Settings,
    arguments: list[str],
    manifest: Any = None,
    on_message: Callable[[str], None] | None = None,
    and_then: Callable[[Any, Any], None] | None = None,
    target: str = "duckdb",
    environment: Mapping[str, str] = NO_VARIABLES,
    is_shown: bool = False,
) -> Any:
    """Run a dbt command, then close the warehouse, which dbt's adapter would keep open; returns a dbtRunnerResult.

    ``DBT_*`` environment variables have no effect: docs/decisions/proof-of-sanity-tests.md.

    Args:
        manifest: the result of ``parse``; without it, the command must not open the warehouse.
        on_message: called with each warning and error of dbt. The errors of a run-operation appear nowhere else.
        and_then: called with the nodes' results and the open warehouse after a success.
        target: a target of the dbt profile; with any other than duckdb, the command must not open the warehouse.
        environment: variables that the project reads, in addition to those of the settings.
        is_shown: whether dbt prints its output.
    """
    working_folder = settings.warehouse.absolute().parent / "dbt"
    writes_warehouse = manifest and target == "duckdb"
    options = [
        *("--target", target),
        *("--project-dir", str(DBT_PROJECT), "--profiles-dir", str(DBT_PROJECT)),
        *("--target-path", str(working_folder), "--log-path", str(working_folder)),
        *("--vars", json.dumps(settings.vars), "--log-level-file", "none"),
        *(() if is_shown else ("--log-level", "none")),
        # The static parser starts threads. They do not exist in a process forked later, where the parser would hang.
        *("--no-send-anonymous-usage-stats", "--no-write-json", "--no-static-parser"),
    ]
    callbacks: list[Callable] = []
    if on_message:
        callbacks.append(lambda event: event.info.level in ("warn", "error") and on_message(event.info.msg))
    index = LedgerIndex(settings.warehouse, settings.limits)
    with (
        _own_environment(settings, environment),
        speedups.quick_dbt(settings.speedups and not is_shown),
        errors_explained(settings.warehouse),
        # dbt does not wait for another process's lock, so take it here; in this process, dbt shares the open file.
        open_when_free(settings.warehouse) if writes_warehouse else nullcontext() as warehouse,
    ):
        # dbt reads some environment variables on import.
        from dbt.adapters.duckdb.connections import DuckDBConnectionManager
        from dbt.cli.main import dbtRunner

        if manifest:
            speedups.make_reusable(manifest)
        if writes_warehouse:
            index.discard_unless_valid()
        try:
            result = dbtRunner(manifest=manifest, callbacks=callbacks).invoke([*arguments, *options])
        finally:
            DuckDBConnectionManager.close_all_connections()
        if and_then and result.success:
            and_then(result.result, warehouse)
    if writes_warehouse:
        index.confirm()
    return result


@contextmanager
def _own_environment(settings: Settings, environment: Mapping[str, str]) -> Iterator[None]:
    """Remove ``DBT_*`` variables, which would override the command's arguments, and set those the project reads."""
    own = {"TALLYMARK_WAREHOUSE": str(settings.warehouse.absolute()), "TALLYMARK_SPEEDUPS": str(settings.speedups)}
    with patch.dict(os.environ, {**own, **environment}):
        for name in [name for name in os.environ if name.startswith("DBT_")]:
            del os.environ[name]
        yield
