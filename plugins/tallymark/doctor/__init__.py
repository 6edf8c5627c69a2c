"""Checks of everything that Tallymark needs: ``make doctor``, described in docs/s3-stores.md."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """Result of a check."""

    WORKS = "works"
    FALLS_BACK = "falls back"
    FAILS = "FAILS"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        about: what was checked, in one or two words.
        text: the result and, unless it works, its consequences and what to do.
    """

    verdict: Verdict
    about: str
    text: str

    def __str__(self) -> str:
        return f"{self.verdict:<12} {self.about:<12} {self.text}"
