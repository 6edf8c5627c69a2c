"""Airflow's database and the pool that keeps writers of the warehouse apart: ``python -m tallymark.airflow_setup``.

Safe to run again, and needed once wherever Tallymark is installed.
"""

from airflow.cli.cli_parser import get_parser

COMMANDS = (
    ["db", "migrate"],
    ["pools", "set", "warehouse", "1", "One slot: the warehouse has one writer at a time."],
)

if __name__ == "__main__":
    parser = get_parser()
    for command in COMMANDS:
        arguments = parser.parse_args(command)
        arguments.func(arguments)
