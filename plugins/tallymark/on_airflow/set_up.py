"""Airflow's database and the pool that keeps writers of the warehouse apart: ``python -m tallymark set-up``.

Safe to run again, and needed once wherever Tallymark is installed.
"""

from airflow.cli.cli_parser import get_parser

from tallymark.on_airflow.defaults import WAREHOUSE_POOL

COMMANDS = (
    ["db", "migrate"],
    ["pools", "set", WAREHOUSE_POOL, "1", "One slot: the warehouse has one writer at a time."],
)


def main(arguments: list[str]) -> None:
    """Run Airflow's commands for it."""
    parser = get_parser()
    for command in COMMANDS:
        given = parser.parse_args(command)
        given.func(given)
