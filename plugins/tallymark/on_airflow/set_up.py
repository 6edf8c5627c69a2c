"""Airflow's database, and the pool that keeps writers of the warehouse apart."""

from airflow.cli.cli_parser import get_parser

from tallymark.on_airflow.defaults import WAREHOUSE_POOL

COMMANDS = (
    ["db", "migrate"],
    ["pools", "set", WAREHOUSE_POOL, "1", "One slot: the warehouse has one writer at a time."],
)


def set_up() -> None:
    """Create or migrate both. Safe to run again."""
    parser = get_parser()
    for command in COMMANDS:
        given = parser.parse_args(command)
        given.func(given)
