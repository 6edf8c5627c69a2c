"""What every task needs, imported once into the process that tasks are forked from.

Named in Airflow's ``[core] mp_forkserver_preload``. It saves each task the seconds that these imports and the
parsing of the dbt project take. It opens no warehouse, no connection and no thread that outlives it.
"""

import logging

import duckdb  # noqa: F401

from tallymark import feed, steps  # noqa: F401
from tallymark.invoke_dbt import parse
from tallymark.settings import Settings

try:
    parse(Settings())
except Exception:
    logging.getLogger(__name__).exception("The tasks will have to parse the dbt project themselves")
