"""The backtests section of the Detections page."""

import pytest
from support.many_detections import ODD_CUSTOMER, make_warehouse
from support.site import Site, publish
from tallymark.backtest.plan import plan
from tallymark.backtest.run import backtest
from tallymark.store.folder import FolderStore


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tried")
    settings = make_warehouse(folder)
    publish(settings, FolderStore(folder))
    return settings


@pytest.fixture(scope="module")
def names(settings) -> list[str]:
    """Two backtests: one with more CHILD detections, one with none."""
    store = FolderStore(settings.warehouse.parent)
    tried = ({"child_min_transactions": 1}, {"child_min_transactions": 99})
    return [backtest(settings, store, plan(settings, vars))["name"] for vars in tried]


@pytest.fixture
def site(page, settings, names):
    yield Site(page, settings, settings.warehouse.parent)
    page.app.dependency_overrides = {}


def test_latest_backtests_are_listed(site, names):
    listed = site.json("/api/backtests")
    assert listed["found"] == 2
    assert {row["name"] for row in listed["rows"]} == set(names)
    by_name = {row["name"]: row for row in listed["rows"]}
    assert by_name[names[0]]["vars"] == {"child_min_transactions": 1}
    assert by_name[names[1]]["totals"] == {
        **{"stream": 3, "backtest": 2, "added": 0, "lost": 1, "earlier": 0, "later": 0, "unchanged": 2}
    }
    assert len(site.json("/api/backtests?limit=1")["rows"]) == 1


def test_one_backtest(site, names):
    more, none = names
    opened = site.json(f"/api/backtests/{none}")
    [summary] = opened["backtests"]
    assert [row["pattern_id"] for row in summary["merchants"] if row["lost"]] == ["PatId2"]
    [lost] = site.json(f"/api/backtests/{none}?change=lost")["rows"]
    assert (lost["pattern_id"], lost["customer"]) == ("PatId2", ODD_CUSTOMER)
    assert lost["stream_evidence"].startswith("6 transactions (at least 5 required)")
    assert lost["backtest_chunk_seq"] is None
    added = site.json(f"/api/backtests/{more}?change=added")
    assert added["found"] == len(added["rows"]) == added["backtests"][0]["totals"]["added"] == 1
    assert "(at least 1 required)" in added["rows"][0]["backtest_evidence"]
    assert site.json(f"/api/backtests/{more}?pattern=PatId3")["found"] == 1
    assert site.json(f"/api/backtests/{more}?merchant=M2")["found"] == 1
    second = site.json(f"/api/backtests/{more}?limit=3&page=2")
    assert (second["found"], len(second["rows"])) == (4, 1)


def test_two_backtests_compared(site, names):
    more, none = names
    both = site.json(f"/api/backtests/{more}?other={none}")
    assert [one["name"] for one in both["backtests"]] == [more, none]
    assert {row["pattern_id"] for row in both["rows"]} == {"PatId2"}
    assert all(row["backtest_chunk_seq"] == 1 and row["other_chunk_seq"] is None for row in both["rows"])
    back = site.json(f"/api/backtests/{none}?other={more}")
    assert back["found"] == both["found"]
    assert all(row["backtest_chunk_seq"] is None and row["other_chunk_seq"] == 1 for row in back["rows"])
    assert "(at least 1 required)" in back["rows"][0]["other_evidence"]
    assert site.json(f"/api/backtests/{more}?other={more}")["found"] == 0


def test_backtest_files_are_served(site, names):
    folder = site.json("/api/backtests")["folder"]
    lines = site.get(f"/files/{folder}{names[1]}/detections.csv").text.splitlines()
    assert lines[0].startswith("change,pattern_id,action_type,merchant,customer,stream_chunk_seq")
    assert len(lines) == 4


@pytest.mark.parametrize("name", ["20260101T000000Z-0000", "nothing", "..%2Fdetections", "%2E%2E"])
def test_unknown_backtest_is_not_found(site, names, name):
    assert site.client.get(f"/api/backtests/{name}").status_code == 404
    assert site.client.get(f"/api/backtests/{names[0]}?other={name}").status_code == 404


def test_unfinished_backtest_is_not_listed(site, settings, names):
    store = FolderStore(settings.warehouse.parent)
    store.put("output/backtests/20991231T000000Z-aaaa/detections.csv", b"change")
    assert site.json("/api/backtests")["found"] == 2
