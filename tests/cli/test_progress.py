"""Progress is a bar on a terminal, and lines elsewhere."""

import io
import os
import pty
import subprocess
import sys

from tallymark.progress import progress
from tallymark.settings import PROJECT_ROOT

SHOWS = """
import sys, time
from tallymark.progress import progress
with progress() as show:
    for done in range(5):
        show(done, 4, f"chunk {done}")
        print(f"printed {done}", "x" * 150, flush=True)
        time.sleep(0.2)
print("the end")
"""


def on_a_terminal(**streams: int | None) -> tuple[str, str]:
    """What a process shows whose stderr is a terminal, and what it writes to stdout if that is a pipe."""
    ours, its = pty.openpty()
    variables = os.environ | {"PYTHONPATH": str(PROJECT_ROOT / "plugins"), "TERM": "xterm", "COLUMNS": "100"}
    stdout = streams.get("stdout", its)
    process = subprocess.Popen([sys.executable, "-c", SHOWS], env=variables, stdout=stdout, stderr=its, text=True)
    os.close(its)
    shown = b""
    try:
        while read := os.read(ours, 65536):
            shown += read
    except OSError:
        pass  # All who had the terminal open have ended.
    written = process.stdout.read() if process.stdout else ""
    assert process.wait(600) == 0
    return shown.decode(), written


def test_bar_on_a_terminal():
    shown, _ = on_a_terminal()
    assert "━" in shown and "chunk 3" in shown
    # The terminal wraps it, so that it can be copied whole.
    assert "printed 4 " + "x" * 150 in shown
    assert shown.endswith("the end\r\n")


def test_bar_stays_out_of_a_file():
    shown, written = on_a_terminal(stdout=subprocess.PIPE)
    assert "━" in shown and "printed" not in shown
    assert written == "".join(f"printed {done} {'x' * 150}\n" for done in range(5)) + "the end\n"


def test_lines_elsewhere_say_what_changed(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress() as show:
        for done, text in enumerate(["first", "first", "second"]):
            show(done, 3, text)
    assert sys.stderr.getvalue() == "    0 s   first\n    0 s   second\n"
