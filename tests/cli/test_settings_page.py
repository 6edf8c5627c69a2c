import re

from tallymark.cli.settings_page import settings_page
from tallymark.patterns import thresholds
from tallymark.settings import PROJECT_ROOT, Settings


def test_settings_page_is_up_to_date_and_complete():
    page = settings_page()
    assert (PROJECT_ROOT / "docs/settings.md").read_text() == page, "run make docs"
    rows = dict(re.findall(r"^\| `(\w+)` \| .* \| (.+) \|$", page, re.MULTILINE))
    assert list(rows) == [*(f"TALLYMARK_{name.upper()}" for name in Settings.model_fields), *thresholds()]
    assert all(len(meaning) > 10 for meaning in rows.values())
