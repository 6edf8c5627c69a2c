"""The backtests in the bucket. Their files never change, so each is read once."""

import json
import re
from typing import Any

from tallymark.backtest.report import SUMMARY, folder
from tallymark.page.reader import Reader

NAME = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{4}")
# Backtests whose detections stay in memory: those opened last.
KEPT = 4


class Backtests:
    """Reads backtests through the bucket of the snapshot reader."""

    def __init__(self, output_prefix: str, reader: Reader):
        self._prefix = folder(output_prefix)
        self._reader = reader
        self._summaries: dict[str, dict[str, Any]] = {}
        self._detections: dict[str, list[dict[str, Any]]] = {}

    def latest(self, limit: int) -> tuple[int, list[dict[str, Any]]]:
        """Return the number of backtests, and the latest summaries, newest first, without their merchants."""
        parts = (stored.key.removeprefix(self._prefix).split("/") for stored in self._reader.store.list(self._prefix))
        names = sorted((name for name, *rest in parts if rest == [SUMMARY] and NAME.fullmatch(name)), reverse=True)
        found = [summary for name in names[:limit] if (summary := self.summary(name))]
        return len(names), [{key: value for key, value in one.items() if key != "merchants"} for one in found]

    def summary(self, name: str) -> dict[str, Any] | None:
        """Return the summary of a backtest, or None if there is no backtest with this name."""
        if name not in self._summaries and (content := self._read(name, SUMMARY)) is not None:
            self._summaries[name] = content
        return self._summaries.get(name)

    def detections(self, name: str) -> list[dict[str, Any]]:
        """Return the detections of a backtest, one row each: see ``tallymark.backtest.report``."""
        if name not in self._detections:
            self._detections[name] = self._read(name, "detections.json") or []
            for oldest in list(self._detections)[:-KEPT]:
                self._detections.pop(oldest, None)
        return self._detections[name]

    def compared(self, name: str, other: str) -> list[dict[str, Any]]:
        """Return the detections that two backtests made at different chunks, or that only one of them made."""

        def key(row: dict[str, Any]) -> tuple[str, str, str]:
            return row["pattern_id"], row["merchant"], row["customer"]

        rows = {key(row): row for row in self.detections(name)}
        others = {key(row): row for row in self.detections(other)}
        nothing = {"backtest_chunk_seq": None, "backtest_evidence": None}
        found = []
        for known in rows | others:
            mine, theirs = rows.get(known, nothing), others.get(known, nothing)
            if mine["backtest_chunk_seq"] != theirs["backtest_chunk_seq"]:
                found.append(
                    others.get(known, {})
                    | mine
                    | {
                        "other_chunk_seq": theirs["backtest_chunk_seq"],
                        "other_evidence": theirs["backtest_evidence"],
                    }
                )
        return found

    def _read(self, name: str, file: str) -> Any:
        if not NAME.fullmatch(name):
            return None
        stored = self._reader.find(f"{self._prefix}{name}/{file}")
        return stored and json.loads(self._reader.store.get(stored))
