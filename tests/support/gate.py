"""Which cases of a test are in the gate; the others run in ``make test-system``."""

from collections.abc import Iterable
from typing import Any

import pytest


def in_gate(cases: Iterable, *kept: Any) -> list:
    """All cases, for pytest.mark.parametrize; those that are not kept are marked ``system``."""
    return [
        case if case in kept else pytest.param(*case if isinstance(case, tuple) else (case,), marks=pytest.mark.system)
        for case in cases
    ]
