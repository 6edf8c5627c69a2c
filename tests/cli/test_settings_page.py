import re

from tallymark.cli.settings_page import settings_page
from tallymark.patterns import thresholds
from tallymark.settings import PROJECT_ROOT, Settings


def test_it_lists_every_setting_and_every_var_as_the_code_has_them():
    page = settings_page()
    assert (PROJECT_ROOT / "docs/settings.md").read_text() == page, "make docs writes it"
    rows = dict(re.findall(r"^\| `(\w+)` \| .* \| (.+) \|$", page, re.MULTILINE))
    assert list(rows) == [*(f"TALLYMARK_{name.upper()}" for name in Settings.model_fields), *thresholds()]
    assert all(len(meaning) > 10 for meaning in rows.values())
