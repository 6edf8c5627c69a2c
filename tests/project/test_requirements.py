"""The locks are complete: make installs them without dependencies."""

import subprocess
import sys


def test_no_dependency_is_missing():
    checked = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
