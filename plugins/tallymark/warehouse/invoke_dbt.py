"""dbt inside this process; a command line of its own takes seconds longer."""

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

_parsed: dict[tuple[str, str], Any] = {}
NO_VARIABLES: Mapping[str, str] = MappingProxyType({})


class DbtError(UserError, RuntimeError):
    """dbt cannot read the project, or cannot set up the warehouse."""


def sanity_tests() -> set[str]:
    """Names of the sanity tests that the project has: the SQL files in its folder tests, without audit and generic."""
    folder = DBT_PROJECT / "tests"
    parts = (path.relative_to(folder).parts for path in folder.rglob("*.sql"))
    return {name.removesuffix(".sql") for *folders, name in parts if not {"audit", "generic"} & set(folders)}


def update_schema(settings: Settings) -> None:
    """Create or alter the tables that the load and the export write: dbt_project/macros/schema.sql."""
    said: list[str] = []
    result = invoke(settings, ["run-operation", "update_schema"], parse(settings), hears=said.append)
    if not result.success:
        why = result.exception or "\n".join(said)
        raise _failed(settings, f"The warehouse {settings.warehouse} could not be set up", why)


def parse(settings: Settings, target: str = "duckdb", environment: Mapping[str, str] = NO_VARIABLES) -> Any:
    """The parsed project, for one command. With speedups it is kept for this process.

    It depends on the name of the warehouse's file, which dbt takes for the name of the database; on the vars, as what
    was compiled of an ephemeral model stays in it; and on Spark on the schema of the build, which ``environment`` has.
    """
    known_by = json.dumps([settings.vars, target, *environment.items()], sort_keys=True), settings.warehouse.stem
    if settings.speedups and known_by in _parsed and speedups.make_fit_for_another_command(_parsed[known_by]):
        return _parsed[known_by]
    result = invoke(settings, ["parse"], target=target, environment=environment)
    if not result.success:
        raise _failed(settings, "dbt cannot read the project", result.exception)
    if settings.speedups:
        _parsed[known_by] = result.result
    return result.result


def _failed(settings: Settings, what: str, why: Exception | str) -> DbtError:
    return DbtError(machine.explain(why, settings.warehouse) or f"{what}: {why}")


def invoke(
    settings: Settings,
    arguments: list[str],
    manifest: Any = None,
    hears: Callable[[str], None] | None = None,
    and_then: Callable[[Any, Any], None] | None = None,
    target: str = "duckdb",
    environment: Mapping[str, str] = NO_VARIABLES,
    is_shown: bool = False,
) -> Any:
    """Run a dbt command and close the warehouse that its adapter would keep open; returns a dbtRunnerResult.

    ``DBT_*`` variables of the environment have no effect: docs/decisions/proof-of-sanity-tests.md.

    Args:
        manifest: what ``parse`` gave; without it the command may not open the warehouse.
        hears: is told dbt's warnings and errors; what a failed run-operation says is nowhere else.
        and_then: is given the nodes' results and the open warehouse after a success.
        target: of the profile; with another than duckdb, the command may not open the warehouse.
        environment: variables that the project reads, besides those of the settings.
        is_shown: whether dbt prints what it does.
    """
    working_folder = settings.warehouse.absolute().parent / "dbt"
    writes_warehouse = manifest and target == "duckdb"
    options = [
        *("--target", target),
        *("--project-dir", str(DBT_PROJECT), "--profiles-dir", str(DBT_PROJECT)),
        *("--target-path", str(working_folder), "--log-path", str(working_folder)),
        *("--vars", json.dumps(settings.vars), "--log-level-file", "none"),
        *(() if is_shown else ("--log-level", "none")),
        # The static parser has threads of its own, without which it hangs in a process that was forked after its use.
        *("--no-send-anonymous-usage-stats", "--no-write-json", "--no-static-parser"),
    ]
    callbacks: list[Callable] = []
    if hears:
        callbacks.append(lambda event: event.info.level in ("warn", "error") and hears(event.info.msg))
    index = LedgerIndex(settings.warehouse, settings.limits)
    with (
        _own_environment(settings, environment),
        speedups.quick_dbt(settings.speedups and not is_shown),
        errors_explained(settings.warehouse),
        # dbt does not wait for the lock of another process; within one process, it shares the open file.
        open_when_free(settings.warehouse) if writes_warehouse else nullcontext() as warehouse,
    ):
        # dbt reads some variables when it is imported.
        from dbt.adapters.duckdb.connections import DuckDBConnectionManager
        from dbt.cli.main import dbtRunner

        if manifest:
            speedups.make_fit_for_another_command(manifest)
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
    """Without ``DBT_*``, which would win over the arguments of a run, and with the variables that the project reads."""
    own = {"TALLYMARK_WAREHOUSE": str(settings.warehouse.absolute()), "TALLYMARK_SPEEDUPS": str(settings.speedups)}
    with patch.dict(os.environ, {**own, **environment}):
        for name in [name for name in os.environ if name.startswith("DBT_")]:
            del os.environ[name]
        yield
