"""Everything works without speedups, and a speedup whose library has changed is left out."""

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
    """The materializations of the project that take the place of dbt-duckdb's own."""
    macros = invoke_dbt.parse(settings(out)).macros.values()
    return {
        macro.name for macro in macros if (macro.package_name, macro.name[:16]) == ("tallymark", "materialization_")
    }


@pytest.mark.system
def test_everything_works_without_speedups(tmp_path, monkeypatch):
    """Two runs of the whole pipeline find what it finds with speedups, and touch none of them."""
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
def test_speedup_of_a_changed_library_is_left_out(caplog, missing):
    def changed():
        raise missing

    with held(changed, speedups.only_warnings):
        pass
    assert f"The speedup changed is off, because a library has changed: {missing}" in caplog.text


def test_project_is_parsed_again_if_a_manifest_cannot_be_used_again(caplog):
    node = SimpleNamespace(is_ephemeral_model=False, extra_ctes=["a"])
    manifest = SimpleNamespace(nodes={"node": node})
    assert not speedups.make_fit_for_another_command(manifest)
    assert "dbt parses the project for each command" in caplog.text
    node.extra_ctes_injected = True
    assert speedups.make_fit_for_another_command(manifest)
    assert (node.extra_ctes, node.extra_ctes_injected) == ([], False)
