"""The patterns that the yml files of the dbt project declare: docs/adding-a-pattern.md."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Any

import yaml

PROJECT_ROOT = Path(__file__).resolve().parents[2]
DBT_PROJECT = PROJECT_ROOT / "dbt_project"

# The same bounds as in the macro threshold_value.
MAX_NUMBER = 999_999_999_999
NUMBER = re.compile(r"[0-9]{1,12}([.][0-9]{1,6})?")


@dataclass(frozen=True)
class Threshold:
    """A number or word in a rule, set by a dbt var.

    Attributes:
        default: the value if the var is not set.
        meaning: a sentence for people.
        maximum: the largest allowed number; the smallest is 0.
        allowed: the allowed words; empty for a number.
    """

    default: int | float | str
    meaning: str
    maximum: int = MAX_NUMBER
    allowed: tuple[str, ...] = ()

    @property
    def bounds(self) -> str:
        """The allowed values, in words."""
        if self.allowed:
            return f"one of {', '.join(self.allowed)}"
        return f"a number from 0 to {self.maximum} with at most 6 decimals"

    def allows(self, value: Any) -> bool:
        """Whether the var may have this value."""
        text = str(value).strip()
        if self.allowed:
            return text in self.allowed
        return bool(NUMBER.fullmatch(text)) and Decimal(text) <= self.maximum


@dataclass(frozen=True)
class Pattern:
    """A pattern, as declared under ``meta`` in its yml.

    Attributes:
        name: name of its model.
        id: ``patternId`` in detection files.
        action: ``ActionType`` in detection files.
        rule: a sentence with ``{threshold}`` as a placeholder for the value of a threshold.
        evidence: a phrase with ``{column}`` as a placeholder for a column of the model or a threshold.
        thresholds: the thresholds of its rule, by name.
        depends_on_other_customers: whether a customer's evidence changes when others buy at the merchant.
    """

    name: str
    id: str
    action: str
    rule: str
    evidence: str
    thresholds: dict[str, Threshold]
    depends_on_other_customers: bool = False

    def explain_rule(self, thresholds: Mapping[str, Any]) -> str:
        """The rule with the values of these thresholds."""
        return _Sentence().vformat(self.rule, (), thresholds)


@cache
def patterns() -> tuple[Pattern, ...]:
    """All patterns, sorted by id.

    Raises:
        ValueError: if two patterns have the same id or declare the same threshold.
    """
    found = [pattern for path in sorted(DBT_PROJECT.glob("patterns/*/*.yml")) for pattern in _declared_in(path)]
    for what, names in (
        ("id", [pattern.id for pattern in found]),
        ("threshold", [name for pattern in found for name in pattern.thresholds]),
    ):
        if duplicates := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"Two patterns have the same {what}: {', '.join(duplicates)}. Rename one of them.")
    return tuple(sorted(found, key=lambda pattern: pattern.id))


def thresholds() -> dict[str, Threshold]:
    """The thresholds of all patterns, by name."""
    return {name: threshold for pattern in patterns() for name, threshold in pattern.thresholds.items()}


def faults(vars: Mapping[Any, Any]) -> Iterable[str]:
    """Errors in dbt vars, a sentence each: names that are not thresholds, and values that are not allowed."""
    known = thresholds()
    if unknown := [str(name) for name in vars if name not in known]:
        yield f"unknown vars: {', '.join(unknown)}. The thresholds are: {', '.join(known)}"
    for name, value in vars.items():
        if name in known and not known[name].allows(value):
            yield f"{name} is {value!r}: it must be {known[name].bounds}"


def shown(value: Any) -> str:
    """The shortest text of a threshold's value; equal values have equal text."""
    text = str(value).strip()
    return f"{Decimal(text).normalize():f}" if text[:1].isdecimal() else text


def explain_evidence(detection: Mapping[str, Any]) -> str:
    """The evidence of a detection or candidate, as a phrase.

    Args:
        detection: a row with ``pattern_id``, the evidence columns and the thresholds of its chunk.
    """
    pattern = next((pattern for pattern in patterns() if pattern.id == detection["pattern_id"]), None)
    if pattern is None:
        return "No pattern with this id is installed."
    try:
        return _Sentence().vformat(pattern.evidence, (), detection)
    except (KeyError, TypeError, ValueError):
        return "The evidence was not stored."


def _declared_in(path: Path) -> Iterable[Pattern]:
    for model in yaml.safe_load(path.read_text()).get("models", []):
        if declared := model.get("config", {}).get("meta", {}).get("pattern"):
            named = {
                name: Threshold(**given | {"allowed": tuple(given.get("allowed", ()))})
                for name, given in (declared.get("thresholds") or {}).items()
            }
            yield Pattern(model["name"], **declared | {"thresholds": named})


class _Sentence(Formatter):
    """Formats decimals without trailing zeros. ``.<n>f`` truncates, because rounding could overstate the evidence."""

    def format_field(self, value: Any, spec: str) -> str:
        if value is None:
            raise ValueError("no value")
        if not isinstance(value, (Decimal, float)):
            return super().format_field(value, spec)
        value = Decimal(str(value))
        if digits := re.search(r"[.](\d+)f$", spec):
            value = value.quantize(Decimal(1).scaleb(-int(digits[1])), rounding=ROUND_DOWN)
        elif value == value.to_integral_value():
            value = value.quantize(Decimal(1))
        else:
            value = value.normalize()
        return super().format_field(value, spec)
