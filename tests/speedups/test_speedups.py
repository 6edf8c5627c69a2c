"""Everything works without speedups, and a speedup that does not fit the installed library is skipped."""

from types import SimpleNamespace

import pytest
from support.four_chunks import VARS, rows_of, settings
from support.streams import detected, exported, write_chunk, write_importance
from tallymark.audit import audit
from tallymark.local.replay import replay
from tallymark.speedups import dbt as speedups
from tallymark.speedups import held
from tallymark.store.folder import FolderStore
from tallymark.warehouse import invoke_dbt


def materializations(out) -> set[str]:
    """Return the materializations in the project that override those of dbt-duckdb."""
    macros = invoke_dbt.parse(settings(out)).macros.values()
    return {
        macro.name for macro in macros if (macro.package_name, macro.name[:16]) == ("tallymark", "materialization_")
    }


@pytest.mark.system
def test_everything_works_without_speedups(tmp_path, monkeypatch):
    """Without speedups, the pipeline uses none of them, and detections and files are the same."""
    used = []
    for name in ("only_warnings", "inject_once", "no_plugins"):
        speedup = getattr(speedups, name)
        monkeypatch.setattr(speedups, name, lambda speedup=speedup: used.append(speedup.__name__) or speedup())
    data, out, quick = tmp_path / "data", tmp_path / "out", tmp_path / "quick"
    write_importance(data, [(f"U{index}", "M3", str(9 - index)) for index in range(8)])
    for number in range(1, 4):
        write_chunk(data, f"chunk_{number}", rows_of(number))
    replay(data, quick, batch=2, vars=VARS)
    assert set(used) == {"only_warnings", "inject_once", "no_plugins"}
    assert materializations(quick) == {"materialization_table_duckdb", "materialization_incremental_duckdb"}
    used.clear()
    monkeypatch.setenv("TALLYMARK_SPEEDUPS", "false")
    assert replay(data, out, batch=2, vars=VARS)["chunks"] == 3
    assert materializations(out) == set()
    assert used == []
    assert detected(out) == detected(quick) != []
    assert exported(out) == exported(quick)
    assert audit(settings(out), FolderStore(data, target=out))["tests"] > 0


@pytest.mark.parametrize("missing", [AttributeError("no fire_event"), ImportError("no dbt.plugins")])
def test_speedup_of_changed_library_is_skipped(caplog, missing):
    def changed():
        raise missing

    with held(changed, speedups.only_warnings):
        pass
    assert f"The changed speedup is off, because its library has changed: {missing}" in caplog.text


def test_changed_manifest_nodes_are_not_reused(caplog):
    node = SimpleNamespace(is_ephemeral_model=False, extra_ctes=["a"])
    manifest = SimpleNamespace(nodes={"node": node})
    assert not speedups.make_reusable(manifest)
    assert "dbt parses the project for each command" in caplog.text
    node.extra_ctes_injected = True
    assert speedups.make_reusable(manifest)
    assert (node.extra_ctes, node.extra_ctes_injected) == ([], False)
