"""Command line of ``make bench`` and ``make bench-quick``."""

import json
import os
import platform
import sys
import timeit
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

import click

from benchmarks import common
from benchmarks.page import MEASUREMENTS, write_page

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.option("--quick", is_flag=True, help="Measure smaller variants, in a few minutes. Targets do not apply.")
@click.option(
    "--only",
    default="",
    help=f"Comma-separated measurements: {', '.join(MEASUREMENTS)}. With page, only write the page.",
)
@click.option("--data", type=FOLDER, help="Folder with transactions.csv.gz and customer_importance.csv.gz.")
def main(quick: bool, only: str, data: Path | None) -> None:
    """Measure, store each result in .local/bench, and write docs/performance.md from the latest results."""
    wanted = only.split(",") if only else MEASUREMENTS
    if unknown := set(wanted) - {*MEASUREMENTS, "page"}:
        raise click.BadParameter(
            f"Unknown: {', '.join(sorted(unknown))}. Choose from {', '.join(MEASUREMENTS)}, page.", param_hint="--only"
        )
    data, failed = common.find_data(data), False
    for name in (name for name in wanted if name != "page"):
        click.echo(f"{name} ...")
        try:
            module = import_module(f"benchmarks.{name}")
            result = common.in_child(module.measure, data, quick)
        except Exception as error:
            failed = True
            click.echo(f"FAILED: {name}: {type(error).__name__}: {error}", err=True)
            continue
        result["about"] = {
            "quick": quick,
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "cores": os.cpu_count(),
            "core_seconds": timeit.timeit("for number in range(10_000_000): total += number", "total = 0", number=1),
            "python": platform.python_version(),
            "data": "generated data" if data.is_relative_to(common.BENCH) else "BankSim",
        }
        (common.BENCH / f"{name}.json").write_text(json.dumps(result, indent=1))
        click.echo(module.table(result))
    write_page()
    sys.exit(failed)


if __name__ == "__main__":
    main()
