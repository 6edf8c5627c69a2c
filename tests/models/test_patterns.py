"""Tests how patterns are declared, and that adding one takes three files and no other change."""

import json
import re
import shutil
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from support.oracle import Row
from support.streams import write_chunk
from tallymark import patterns
from tallymark.local.replay import replay
from tallymark.patterns import PROJECT_ROOT, explain_evidence

GUIDE = PROJECT_ROOT / "docs/adding-a-pattern.md"
COPIED = ("dbt_project", "plugins", "docs", "airflow.env")

# Runs in a copy of the project: continues a warehouse, and prints everything that a person sees of the patterns.
LOOK = """
import json, logging, sys
from pathlib import Path
from support.site import Site, publish
from tallymark.cli.settings_page import settings_page
from tallymark.audit import AuditError, audit
from tallymark.local.replay import replay
from tallymark.page import app
from tallymark.pipeline import export
from tallymark.publish import report
from tallymark.settings import Settings
from tallymark.store.folder import FolderStore
from tallymark.warehouse.connection import connect
from datetime import datetime, UTC

out = Path(sys.argv[1])
replay(out, out)
settings, store = Settings(warehouse=out / "warehouse.duckdb"), FolderStore(out)
site = Site(app, settings, out)
log = []
report.log.info = lambda line, *values: log.append(line % values)
export.export_and_report(settings, store, lambda *_: True, datetime(2026, 1, 1, tzinfo=UTC))
audit(settings, store)
with connect(settings) as warehouse:
    warehouse.execute("update detections set chunk_amount = chunk_amount + 1 where pattern_id = 'PatId4'")
try:
    audit(settings, store)
except AuditError as error:
    found_by_the_audit = str(error)
print(json.dumps({
    "files": [path.read_text() for path in sorted((out / "output/detections").iterdir())],
    "page": site.json("/api/detections?pattern=PatId4"),
    "csv": site.get("/api/detections.csv?pattern=PatId4").text,
    "nearest": site.json("/api/merchants?merchant=M")["nearest"],
    "audit": found_by_the_audit,
    "settings": settings_page(),
    "log": log,
}))
"""


def row(pattern_id: str, **columns: object) -> dict[str, object]:
    return {"pattern_id": pattern_id, **columns}


CHILD = {"customer_transactions": 1234, "child_min_transactions": Decimal("80.000000")}


@pytest.mark.parametrize(
    ("average", "threshold", "words"),
    [
        ("22.999999", "23.000000", "Rs 22.99 on average (below Rs 23 required)"),
        ("4.35", "22.500000", "Rs 4.35 on average (below Rs 22.5 required)"),
        ("0.29", "1000000", "Rs 0.29 on average (below Rs 1,000,000 required)"),
    ],
)
def test_evidence_is_truncated_not_rounded(average, threshold, words):
    detection = row("PatId2", **CHILD, average_amount=Decimal(average), child_max_average_amount=Decimal(threshold))
    assert explain_evidence(detection) == f"1,234 transactions (at least 80 required) of {words}"


def test_missing_evidence():
    """Occurs in a warehouse that was rebuilt from manifests of other patterns."""
    assert explain_evidence(row("PatId2", **CHILD, average_amount=None)) == "The evidence was not stored."
    assert explain_evidence(row("PatId9")) == "No pattern with this id is installed."


@pytest.mark.parametrize(
    ("same", "says"), [("PatId2", "Two patterns have the same id: PatId2"), ("threshold", "child_min_transactions")]
)
def test_duplicate_names_are_rejected(tmp_path, monkeypatch, same, says):
    folder = tmp_path / "patterns/copied"
    shutil.copytree(patterns.DBT_PROJECT / "patterns", tmp_path / "patterns")
    folder.mkdir()
    text = (tmp_path / "patterns/child/child.yml").read_text()
    text = text.replace("child_", "copied_") if same == "PatId2" else text.replace("PatId2", "PatId9")
    (folder / "copied.yml").write_text(text)
    monkeypatch.setattr(patterns, "DBT_PROJECT", tmp_path)
    with pytest.raises(ValueError, match=says):
        patterns.patterns.__wrapped__()


def files_in_guide() -> dict[str, str]:
    blocks = re.findall(r"^```(?:sql|yaml)\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    paths = re.findall(r"`(dbt_project/patterns/surge/\S+)`", GUIDE.read_text())
    return dict(zip(paths, blocks, strict=True))


def test_pattern_is_added_by_adding_files(tmp_path):
    """Chunks 1 and 2 are released before the pattern is added, and stay unchanged. Chunk 3 comes after it."""
    out, project = tmp_path / "out", tmp_path / "project"
    usual = [Row(name, "M", "F", "10") for name in ("A", "B", "C") for _ in range(100)]
    surge = [Row("A", "M", "F", "90")] * 10 + [Row("B", "M", "F", "200")] * 9 + [Row("C", "M", "F", "1")] * 80
    write_chunk(out, "chunk_1", usual)
    write_chunk(out, "chunk_2", surge)
    replay(out, out)
    before = (out / "output/detections/detections-00000001.csv").read_text()
    assert "PatId2" in before
    write_chunk(out, "chunk_3", surge)

    for name in COPIED:
        copy = shutil.copytree if (PROJECT_ROOT / name).is_dir() else shutil.copy
        copy(PROJECT_ROOT / name, project / name)
    for path, text in files_in_guide().items():
        (project / path).parent.mkdir(exist_ok=True)
        (project / path).write_text(text)
    path = f"{project / 'plugins'}:{Path(__file__).parents[1]}"
    done = subprocess.run(
        [sys.executable, "-c", LOOK, out], env={"PYTHONPATH": path}, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])

    evidence = "10 transactions in the chunk (at least 10 required) of Rs 90.00 on average (more than 3 times Rs 23.33"
    assert seen["files"][0] == before
    assert [line.split(",", 2)[2] for line in seen["files"][1].splitlines()[1:]] == ["PatId4,SURGE,A,M"]
    (detection,) = seen["page"]["rows"]
    assert detection["evidence"].startswith(evidence) and evidence in seen["csv"]
    assert any("SURGE" in line and evidence in line for line in seen["log"])
    (pattern,) = (one for one in seen["page"]["patterns"] if one["pattern_id"] == "PatId4")
    assert pattern["detections"] == 1
    assert pattern["rule"].startswith(
        "A customer has at least 10 transactions at a merchant in one chunk, of more than 3"
    )
    nearest = [one for one in seen["nearest"] if one["action_type"] == "SURGE"]
    assert [one["customer"] for one in nearest] == ["B", "C"]
    assert nearest[0]["evidence"].startswith("9 transactions in the chunk (at least 10 required) of Rs 200.00")
    assert "surge_detections_are_those_of_the_raw_rows" in seen["audit"]
    assert (
        "| `surge_times_average` | `3` | a number from 0 to 1000 with at most 6 decimals | SURGE |" in seen["settings"]
    )
