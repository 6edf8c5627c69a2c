"""Command line of ``make bench`` and ``make bench-quick``."""

import argparse
import dataclasses
import json
import os
import platform
import sys
import timeit
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.common import BENCH, Options, find_data, in_child, run, timed
from benchmarks.page import write_page

MEASUREMENTS = ("latency", "minute", "chunk", "backlog", "growth", "rivals", "day", "idle", "pairs", "listing")
ONLY_WHEN_FULL = {"minute"}


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller variants, a few minutes in all")
    parser.add_argument("--only", help=f"some of {', '.join(MEASUREMENTS)}, with commas between; page: only write it")
    parser.add_argument("--data", type=Path, help="folder with transactions.csv.gz and customer_importance.csv.gz")
    arguments = parser.parse_args()
    wanted = arguments.only.split(",") if arguments.only else MEASUREMENTS
    if unknown := set(wanted) - {*MEASUREMENTS, "page"}:
        parser.error(f"there is no measurement {', '.join(sorted(unknown))}")
    BENCH.mkdir(parents=True, exist_ok=True)
    options = Options(arguments.quick, find_data(arguments.data))
    measured, failed = {}, []
    for name in wanted:
        if name == "page" or (arguments.quick and not arguments.only and name in ONLY_WHEN_FULL):
            continue
        print(f"{name} ...", flush=True)
        try:
            seconds = timed(lambda name=name: measured.update({name: in_child(run, name, options)}))
        except Exception as error:
            failed.append(name)
            print(f"FAILED: {name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            continue
        about = {
            "quick": options.quick,
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "took_seconds": seconds,
            "cores": os.cpu_count(),
            "core_seconds": timeit.timeit("for number in range(10_000_000): total += number", "total = 0", number=1),
            "python": platform.python_version(),
            "data": "BankSim" if options.data != BENCH / "generated" else "generated data of its shape",
        }
        result = dataclasses.asdict(measured[name]) | {"about": about}
        (BENCH / f"{name}.json").write_text(json.dumps(result, indent=1))
    write_page(MEASUREMENTS)
    for found in measured.values():
        for figure, (value, unit) in found.figures.items():
            print(f"{figure}: {value:.4g} {unit}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
