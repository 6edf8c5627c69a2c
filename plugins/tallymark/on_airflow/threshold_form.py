"""The thresholds of all patterns as parameters of a DAG."""

import json
from collections.abc import Mapping
from typing import Any

from airflow.sdk import Param

from tallymark.patterns import patterns, shown


def threshold_params(vars: Mapping[str, Any]) -> dict[str, Param]:
    """A parameter for each threshold: its value in force, its meaning and its bounds.

    Args:
        vars: the thresholds that differ from their defaults, by name.
    """
    params = {}
    for pattern in patterns():
        for name, threshold in pattern.thresholds.items():
            in_force = shown(vars.get(name, threshold.default))
            bounds: dict[str, Any] = {"type": "string", "enum": list(threshold.allowed)}
            if not threshold.allowed:
                bounds = {"type": "number", "minimum": 0, "maximum": threshold.maximum}
            params[name] = Param(
                in_force if threshold.allowed else json.loads(in_force),
                title=f"{pattern.action}: {name}",
                description=f"{threshold.meaning} In force: {in_force}. Allowed: {threshold.bounds}.",
                **bounds,
            )
    return params


def changed(params: Mapping[str, Any], vars: Mapping[str, Any]) -> dict[str, str]:
    """The thresholds that a form has another value for than the one in force."""
    in_force = {name: param.value for name, param in threshold_params(vars).items()}
    return {name: shown(params[name]) for name, value in in_force.items() if params[name] != value}
