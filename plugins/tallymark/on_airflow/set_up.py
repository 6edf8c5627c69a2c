"""Setup of Airflow's database, and of the pool that limits the warehouse to one writer."""

from airflow.cli.cli_parser import get_parser

from tallymark.on_airflow.defaults import WAREHOUSE_POOL

COMMANDS = (
    ["db", "migrate"],
    ["pools", "set", WAREHOUSE_POOL, "1", "One slot, because the warehouse has one writer at a time."],
)


def set_up() -> None:
    """Create or migrate the database, and create the pool. Safe to run again."""
    parser = get_parser()
    for command in COMMANDS:
        given = parser.parse_args(command)
        given.func(given)
