"""Chooses which cases of a test run in the gate (``make test``); the others run in ``make test-system``."""

from collections.abc import Iterable
from typing import Any

import pytest


def in_gate(cases: Iterable, *kept: Any) -> list:
    """Return all cases for pytest.mark.parametrize; those not in ``kept`` are marked ``system``."""
    return [
        case if case in kept else pytest.param(*case if isinstance(case, tuple) else (case,), marks=pytest.mark.system)
        for case in cases
    ]
