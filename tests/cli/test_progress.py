"""Progress is a bar on a terminal, and lines otherwise."""

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
    """Run SHOWS with stderr on a terminal; return the terminal's content, and stdout if it is a pipe."""
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
        pass  # Every process that had the terminal open has ended.
    written = process.stdout.read() if process.stdout else ""
    assert process.wait(600) == 0
    return shown.decode(), written


def test_bar_on_a_terminal():
    shown, _ = on_a_terminal()
    assert "━" in shown and "chunk 3" in shown
    # The terminal wraps the line. rich must not, so that it can be copied in one piece.
    assert "printed 4 " + "x" * 150 in shown
    assert shown.endswith("the end\r\n")


def test_bar_is_not_written_to_a_file():
    shown, written = on_a_terminal(stdout=subprocess.PIPE)
    assert "━" in shown and "printed" not in shown
    assert written == "".join(f"printed {done} {'x' * 150}\n" for done in range(5)) + "the end\n"


def test_lines_show_changes_only(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress() as show:
        for done, text in enumerate(["first", "first", "second"]):
            show(done, 3, text)
    assert sys.stderr.getvalue() == "    0 s   first\n    0 s   second\n"
