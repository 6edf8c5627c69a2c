"""Waits for conditions, with a deadline that suits a busy machine."""

import time

DEADLINE_SECONDS = 600


def wait_for(question, what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not question():
        assert time.monotonic() < deadline, f"Did not happen within {DEADLINE_SECONDS} s: {what}"
        time.sleep(0.3)
