"""DAG parameters for the thresholds of all patterns."""

import json
from collections.abc import Mapping
from typing import Any

from airflow.sdk import Param

from tallymark.patterns import patterns, shown


def threshold_params(vars: Mapping[str, Any]) -> dict[str, Param]:
    """Return a parameter for each threshold, with its current value, its meaning and the allowed values.

    Args:
        vars: the thresholds that differ from their defaults, by name.
    """
    params = {}
    for pattern in patterns():
        for name, threshold in pattern.thresholds.items():
            current = shown(vars.get(name, threshold.default))
            bounds: dict[str, Any] = {"type": "string", "enum": list(threshold.allowed)}
            if not threshold.allowed:
                bounds = {"type": "number", "minimum": 0, "maximum": threshold.maximum}
            params[name] = Param(
                current if threshold.allowed else json.loads(current),
                title=f"{pattern.action}: {name}",
                description=f"{threshold.meaning} Current value: {current}. Allowed: {threshold.bounds}.",
                **bounds,
            )
    return params


def changed(params: Mapping[str, Any], vars: Mapping[str, Any]) -> dict[str, str]:
    """Return the thresholds whose value in a submitted form differs from the current value."""
    current = {name: param.value for name, param in threshold_params(vars).items()}
    return {name: shown(params[name]) for name, value in current.items() if params[name] != value}
