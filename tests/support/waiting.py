"""Waiting for what must come, however busy the machine is."""

import time

DEADLINE_SECONDS = 600


def wait_for(question, what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not question():
        assert time.monotonic() < deadline, f"not within {DEADLINE_SECONDS} s: {what}"
        time.sleep(0.3)
