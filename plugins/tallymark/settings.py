"""Every setting of Tallymark, read from environment variables named ``TALLYMARK_<FIELD>``."""

import os
import re
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import yaml
from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PROJECT_ROOT = Path(__file__).resolve().parents[2]
DBT_PROJECT = PROJECT_ROOT / "dbt_project"
# The file's name without its ending is the name of the database, and is read before these schemas.
NO_DATABASES = ("raw", "output", "snapshot", "main", "temp", "system", "information_schema", "pg_catalog")
# Of the tests and benchmarks.
NOT_SETTINGS = {"BANKSIM", "FIGURES", "MUTANTS", "FUZZ_SEED", "KILLS", "AIRFLOW_KILLS", "SCREENSHOTS"}
# What Kubernetes and Docker tell of a service that is called tallymark.
OF_A_SERVICE = re.compile(r"(.*_)?SERVICE_(HOST|PORT)(_.*)?|(.*_)?PORT(_\d+_.*)?|NAME|ENV_.*")


def limit(name: str, value: int) -> str:
    """How the reason of a rejection ends that hangs on a setting."""
    return f"{value} (setting {name})"


class Settings(BaseSettings):
    """Where the data is and how it is processed.

    Raises:
        pydantic.ValidationError: naming the variable, when a value cannot be used, or when nothing is called so.
    """

    model_config = SettingsConfigDict(env_prefix="TALLYMARK_", frozen=True)

    bucket: str = "customer-transactions-detection"
    transactions_prefix: str = "input/transactions/"
    customers_prefix: str = "input/customers/"
    output_prefix: str = "output/"
    aws_conn_id: str = "aws_default"

    warehouse: Path = Field(
        PROJECT_ROOT / "warehouse.duckdb", description="The DuckDB file; only one process writes it."
    )
    vars: dict = Field({}, description="dbt vars (thresholds) that differ from dbt_project.yml, as JSON.")

    schedule: str = Field("* * * * *", description="A cron expression, or @continuous.")
    audit_schedule: str = Field("30 3 * * *", description="When audit_patterns runs: a cron expression, UTC.")
    max_chunks_per_run: int = Field(
        100, ge=1, description="Chunks in one micro-batch; the rest waits for the next run."
    )
    full_listing_seconds: float = Field(
        300,
        ge=0,
        description="How often the whole prefix is listed, once it holds more chunks than one call shows; a late chunk "
        "waits so long at most.",
    )
    max_object_bytes: int = Field(
        128 * 2**20, ge=1, description="A chunk whose objects are larger together is rejected whole, without a look."
    )
    max_unpacked_bytes: int = Field(
        128 * 2**20, ge=1, description="A chunk whose objects unpack to more together is rejected whole."
    )

    time_zone: str = Field("Asia/Kolkata", description="IANA name; of the two times in a detection file.")
    hold_remainder_seconds: float = Field(
        0, ge=0, description="How long detections that do not fill a file wait for more; 0: not at all."
    )

    lag_limit_seconds: float = Field(
        180,
        gt=0,
        description="Longer than this from landing to file: it has fallen behind.",
    )
    standstill_seconds: float = Field(
        900, gt=0, description="Nothing has landed for longer than this: the stream stands still."
    )

    alert_email: str = Field("", description="Who gets alerts by e-mail, with commas between; empty: nobody.")
    alert_smtp_conn_id: str = Field("smtp_default", description="Airflow connection that sends them, if it exists.")
    alert_slack_conn_id: str = Field(
        "slack_default", description="Airflow connection of a Slack webhook, if it exists."
    )
    alert_quiet_hours: float = Field(24, gt=0, description="No detection for longer than this is unusual.")
    alert_many_times: float = Field(10, gt=1, description="So many times the usual detections a chunk are unusual.")
    owner_link: str = Field("", description="https: or mailto: link behind the DAGs' owner; empty: none.")

    feed_source: Path | None = Field(
        None, description="transactions.csv(.gz) that feed_transactions replays; unset: no such DAG."
    )
    feed_chunk_rows: int = Field(10_000, ge=1)
    feed_interval_seconds: float = Field(1.0, ge=0)

    @property
    def limits(self) -> list[str]:
        """How the reasons of rejections end that hang on a setting, with the values that are in force."""
        return [limit(name, getattr(self, name)) for name in ("max_object_bytes", "max_unpacked_bytes")]

    @property
    def wal(self) -> Path:
        """DuckDB's log of what is committed and not yet in the warehouse's file."""
        return self.beside("wal")

    def beside(self, kind: str) -> Path:
        """A file that belongs to the warehouse and lies beside it; its name begins with the warehouse's whole name."""
        return self.warehouse.with_name(f"{self.warehouse.name}.{kind}")

    @field_validator("warehouse")
    @classmethod
    def _usable_file(cls, path: Path) -> Path:
        if path.stem.lower() in NO_DATABASES:
            raise ValueError(
                f"{path} would be a database called {path.stem}, which means something else in SQL. "
                "Give the file another name, such as warehouse.duckdb"
            )
        if not path.name or path.is_dir():
            raise ValueError(f"{path} is a folder; name a file in it, such as {path / 'warehouse.duckdb'}")
        if found := re.findall(r"""[?#]|['";\x00-\x1f](?=[^/]*$)""", str(path)):
            raise ValueError(f"{str(path)!r} has {found[0]!r} in it, which is read as something else; rename it")
        return path

    @model_validator(mode="before")
    @classmethod
    def _known_variables(cls, given: Any) -> Any:
        prefix = cls.model_config["env_prefix"]
        names = {name.upper().removeprefix(prefix) for name in os.environ if name.upper().startswith(prefix)}
        unknown = names - {name.upper() for name in cls.model_fields} - NOT_SETTINGS
        unknown = sorted(f"{prefix}{name}" for name in unknown if not OF_A_SERVICE.fullmatch(name))
        if unknown:
            known = ", ".join(f"{prefix}{name.upper()}" for name in cls.model_fields)
            raise ValueError(f"unknown settings: {', '.join(unknown)}. There are: {known}")
        return given

    @field_validator("vars")
    @classmethod
    def _known_vars(cls, given: dict) -> dict:
        if unknown := [str(name) for name in given if name not in known_vars()]:
            raise ValueError(
                f"unknown vars: {', '.join(unknown)}. Those of dbt_project.yml are: {', '.join(known_vars())}"
            )
        return given

    @field_validator("time_zone")
    @classmethod
    def _known_time_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError) as error:
            raise ValueError(f"{name!r} is not an IANA time zone, such as Asia/Kolkata or UTC") from error
        return name

    @field_validator("transactions_prefix", "customers_prefix", "output_prefix")
    @classmethod
    def _ends_with_slash(cls, prefix: str) -> str:
        return prefix.rstrip("/") + "/" if prefix.strip("/") else ""


@cache
def known_vars() -> list[str]:
    """Names of the dbt vars that there are."""
    return list(yaml.safe_load((DBT_PROJECT / "dbt_project.yml").read_text())["vars"])
