"""The page docs/settings.md."""

from pathlib import Path
from typing import Any

from tallymark.patterns import patterns
from tallymark.settings import PROJECT_ROOT, Settings, variable

INTRODUCTION = """\
# Settings

Made by `make docs` from [settings.py](../plugins/tallymark/settings.py) and the yml files of the
[patterns](../dbt_project/patterns).

Settings are environment variables. One that cannot be used, or that nothing is called, is an error that says so; in
Airflow it is an import error of the DAGs.

| variable | default | meaning |
| --- | --- | --- |"""
THRESHOLDS = """
## Thresholds

dbt vars. Others are given as JSON in `TALLYMARK_VARS`, or as YAML in `VARS=` of `make replay` and `make certify` and in
`--vars` of dbt. Chunks that an export released keep what was decided on them.

| var | default | allowed | pattern | meaning |
| --- | --- | --- | --- | --- |"""


def settings_page() -> str:
    """Every setting and every threshold, as Markdown."""
    settings = [
        f"| `{variable(name)}` | {_as_code(field.default)} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    rows = [
        f"| `{name}` | `{threshold.default}` | {threshold.bounds} | {pattern.action} | {threshold.meaning} |"
        for pattern in patterns()
        for name, threshold in pattern.thresholds.items()
    ]
    return "\n".join([INTRODUCTION, *settings, THRESHOLDS, *rows, ""])


def _as_code(default: Any) -> str:
    if isinstance(default, Path):
        default = default.relative_to(PROJECT_ROOT)
    return "" if default in (None, "") else f"`{default}`"
