"""Checks of what Tallymark needs, before its first run: see ``make doctor`` in docs/s3-stores.md."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What a check found."""

    WORKS = "works"
    FALLS_BACK = "falls back"
    FAILS = "FAILS"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        about: what was checked, in one word or two.
        text: what was found and, unless it works, what follows and what to do.
    """

    verdict: Verdict
    about: str
    text: str

    def __str__(self) -> str:
        return f"{self.verdict:<12} {self.about:<12} {self.text}"
