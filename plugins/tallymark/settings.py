"""Tallymark's settings, read from environment variables named ``TALLYMARK_<FIELD>``."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

from croniter import croniter
from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from tallymark.errors import UserError
from tallymark.patterns import PROJECT_ROOT, faults

# DuckDB names the database after the file, without its suffix, and resolves that name before the names of schemas.
RESERVED_NAMES = ("raw", "lake", "output", "snapshot", "main", "temp", "system", "information_schema", "pg_catalog")
# Variables of the tests and benchmarks.
TEST_VARIABLES = {"BANKSIM", "FIGURES", "MUTANTS", "FUZZ_SEED", "KILLS", "AIRFLOW_KILLS", "SCREENSHOTS"}
# Variables that Kubernetes and Docker set for a service named tallymark.
SERVICE_VARIABLE = re.compile(r"(.*_)?SERVICE_(HOST|PORT)(_.*)?|(.*_)?PORT(_\d+_.*)?|NAME|ENV_.*")

# Missing values in CSV files that databases, Spark, Hive, pandas, R, Excel and programming languages write.
MISSING_WORDS = (
    r"NULL,\N,(null),[null],<null>,NaN,-NaN,NaT,None,NA,N/A,<NA>,#N/A,#NA,#NULL!,#REF!,#VALUE!,nil,<nil>,undefined"
)
# The presets that Airflow accepts as a schedule, besides cron expressions.
SCHEDULES = {"@continuous", "@once", "@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly"}
VARS_EXAMPLE = '{"child_min_transactions": 60}'
ENCRYPTIONS = ("", "AES256", "aws:kms", "aws:kms:dsse")
# A bucket name, as S3 and compatible servers accept it, or the ARN of an access point.
BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*|arn:aws[a-z-]*:s3[a-z-]*:[a-z0-9-]*:[0-9]{12}:[a-zA-Z0-9./:-]+")


class SettingsError(UserError, ValueError):
    """Settings are invalid. Each line of the message has a variable, its value and what is allowed."""


class Limit(NamedTuple):
    """A size limit that is a setting. Input that it rejected is tried again when the limit changes."""

    setting: str
    bytes: int

    def __str__(self) -> str:
        return f"{self.bytes} ({variable(self.setting)})"


class Limits(NamedTuple):
    """The configured size limits, in bytes, of a chunk's objects and of their decompressed content."""

    max_object_bytes: int
    max_decompressed_bytes: int


class Settings(BaseSettings):
    """Where the data is and how it is processed.

    Raises:
        SettingsError: when a value is invalid or a ``TALLYMARK_*`` variable is unknown.
    """

    model_config = SettingsConfigDict(env_prefix="TALLYMARK_", frozen=True, allow_inf_nan=False)

    bucket: str = Field("customer-transactions-detection", min_length=1, description="Name of the S3 bucket.")
    transactions_prefix: str = Field("input/transactions/", description="Prefix in the bucket under which chunks land.")
    customers_prefix: str = Field("input/customers/", description="Prefix of the customer importance.")
    output_prefix: str = Field(
        "output/", description="Prefix of everything that Tallymark writes: detection files, rejected rows, manifests."
    )
    aws_conn_id: str = Field(
        "aws_default",
        description="Airflow connection to S3. Its extra sets `endpoint_url`, `region_name` and the addressing style "
        "([s3-stores.md](s3-stores.md)).",
    )
    server_side_encryption: str = Field(
        "",
        description="Encryption header of each PUT: `AES256`, `aws:kms` or `aws:kms:dsse`. Empty: no header, so the "
        "bucket's default applies.",
    )
    kms_key_id: str = Field(
        "",
        description="ARN or ID of the KMS key for each PUT; only with `aws:kms` or `aws:kms:dsse`. Empty: the bucket's "
        "key.",
    )
    requester_pays: bool = Field(False, description="Agree to pay for requests. Requester-pays buckets require it.")

    warehouse: Path = Field(
        PROJECT_ROOT / "warehouse.duckdb", description="Path of the DuckDB file. One process at a time may write to it."
    )
    engine: Literal["duckdb", "spark", "databricks"] = Field(
        "duckdb",
        description="Engine that stores raw rows and state and runs the models: `duckdb`, `spark` or `databricks` "
        "([spark.md](spark.md)).",
    )
    lake_schema: str = Field(
        "tallymark",
        pattern="^[a-z][a-z0-9_]*$",
        description="Prefix of schema names on Spark. Each warehouse adds its own suffix.",
    )
    lake_location: str = Field(
        "", description="URI below which Spark creates schemas. Empty: the metastore's default location."
    )
    lake_staging: str = Field(
        "",
        description="URI under which Spark reads the bucket, such as `s3a://my-bucket`. Rows then travel through "
        "objects below the output prefix. Empty: rows travel through a folder next to the warehouse, which Spark must "
        "reach under the same path.",
    )
    databricks_conn_id: str = Field(
        "databricks_default",
        description="Airflow connection with which the `build` and `audit` tasks log in to Databricks, if it exists "
        "([databricks.md](databricks.md)).",
    )
    min_free_bytes: int = Field(
        64 * 2**20,
        ge=0,
        description="Free disk space, in bytes, that a step needs before it writes to the warehouse. 0 disables the "
        "check.",
    )
    vars: Annotated[dict, NoDecode] = Field({}, description="Thresholds that differ from their defaults, as JSON.")

    schedule: str = Field(
        "* * * * *", description="Schedule of the `detect_patterns` DAG: a cron expression (UTC) or `@continuous`."
    )
    audit_schedule: str = Field(
        "30 3 * * *", description="Schedule of the `audit_patterns` DAG: a cron expression (UTC)."
    )
    queue: str = Field(
        "default",
        min_length=1,
        description="Queue of all tasks if Airflow runs on many machines. Only one worker, on the machine with the "
        "warehouse, may take tasks from it ([many-machines.md](many-machines.md)).",
    )
    max_chunks_per_run: int = Field(
        100, ge=1, le=100_000, description="Maximum number of chunks in one run. The others wait for the next run."
    )
    full_listing_seconds: float = Field(
        300,
        ge=0,
        description="Seconds between listings of the whole transactions prefix, once 1,000 chunks have been taken. A "
        "late chunk waits at most this long.",
    )
    folder_settle_seconds: float = Field(
        10,
        ge=0,
        description="Seconds without a new object before a folder of part files counts as complete, if its `_SUCCESS` "
        "marker is not newer than its parts (as after a copy).",
    )
    max_object_bytes: int = Field(
        128 * 2**20,
        ge=1,
        description="Maximum total size, in bytes, of the objects of a chunk or of the customer importance. Larger "
        "input is rejected without being read.",
    )
    max_decompressed_bytes: int = Field(
        128 * 2**20,
        ge=1,
        description="The same after decompression, in bytes. Larger input is rejected.",
    )
    missing_words: str = Field(
        MISSING_WORDS,
        description="Comma-separated words that mean a missing value in the customer, merchant, gender, amount and "
        "weight columns, in upper or lower case. Empty: none.",
    )

    speedups: bool = Field(
        True,
        description="Use private interfaces of dbt, botocore and Airflow to save time "
        "([speedups](../plugins/tallymark/speedups/README.md)). `false`: public interfaces only; a run takes seconds "
        "longer.",
    )

    backtest_rows: int = Field(
        1_000_000,
        ge=1,
        description="Number of rows that a backtest reads and builds at once. More rows need more memory and make the "
        "stream wait longer.",
    )
    backtest_seconds: float = Field(
        4 * 3600,
        gt=0,
        description="Maximum duration of a backtest, in seconds. A backtest with a longer estimate is rejected; one "
        "that takes longer is stopped.",
    )
    backtest_bytes: int = Field(
        20 * 2**30,
        ge=1,
        description="Maximum disk space of a backtest, in bytes, on the warehouse's disk. A backtest with a larger "
        "estimate is rejected; one that takes more is stopped.",
    )

    time_zone: str = Field("Asia/Kolkata", description="IANA time zone of the two times in detection files.")
    hold_remainder_seconds: float = Field(
        0, ge=0, description="Maximum time, in seconds, that detections wait until they fill a file. 0: no wait."
    )

    lag_limit_seconds: float = Field(
        180,
        gt=0,
        description="Landing-to-file time, in seconds, above which the pipeline counts as lagging.",
    )
    stalled_seconds: float = Field(
        900, gt=0, description="Seconds without a new chunk after which the stream counts as stalled."
    )

    alert_email: str = Field("", description="E-mail addresses for alerts, separated by commas. Empty: no e-mail.")
    alert_smtp_conn_id: str = Field("smtp_default", description="Airflow connection for e-mail alerts, if it exists.")
    alert_slack_conn_id: str = Field(
        "slack_default", description="Airflow connection for Slack alerts (a webhook), if it exists."
    )
    alert_quiet_hours: float = Field(
        24, gt=0, description="Alert when no detection was made for this many hours although chunks were processed."
    )
    alert_many_times: float = Field(
        10, gt=1, description="Alert when a run has more than this many times the usual detections per chunk."
    )
    owner_link: str = Field(
        "", description="Link of the DAGs' owner in Airflow's UI, an `https:` or `mailto:` URL. Empty: no link."
    )

    feed_source: Path | None = Field(
        None,
        description="File that the feed (`tallymark feed`) puts into the bucket, chunk by chunk: `transactions.csv` or "
        "`transactions.csv.gz`.",
    )
    feed_chunk_rows: int = Field(10_000, ge=1, description="Number of rows in each chunk of the feed.")
    feed_interval_seconds: float = Field(1.0, ge=0, description="Seconds between the chunks of the feed.")

    def __init__(self, **given: Any):
        problems = list(_unknown_variables())
        try:
            super().__init__(**given)
        except ValidationError as error:
            problems += [line for details in error.errors() for line in _as_sentences(details, given)]
        if problems:
            raise SettingsError("\n".join(problems))

    @property
    def reserved_prefixes(self) -> tuple[str, ...]:
        """Prefixes below the transactions prefix that do not hold transactions."""
        others = (self.customers_prefix, self.output_prefix)
        return tuple(prefix for prefix in others if prefix and prefix.startswith(self.transactions_prefix))

    @property
    def limits(self) -> Limits:
        return Limits(self.max_object_bytes, self.max_decompressed_bytes)

    @property
    def missing_values(self) -> list[str]:
        """The words of ``missing_words`` in lower case."""
        return [word.strip().lower() for word in self.missing_words.split(",") if word.strip()]

    @field_validator("warehouse")
    @classmethod
    def _usable_file(cls, path: Path) -> Path:
        if path.stem.lower() in RESERVED_NAMES:
            raise ValueError(
                f"it must not be named {path.stem}, which means something else in SQL. "
                "Rename the file, for example to warehouse.duckdb"
            )
        if not path.name or path.is_dir():
            raise ValueError(f"it is a folder. Set it to a file in that folder, such as {path / 'warehouse.duckdb'}")
        if found := re.findall(r"""[?#]|['";\x00-\x1f](?=[^/]*$)""", str(path)):
            raise ValueError(f"it contains {found[0]!r}, which DuckDB or SQL would misread. Use another path")
        return path

    @field_validator("vars", mode="before")
    @classmethod
    def _from_json(cls, given: Any) -> dict:
        try:
            value = json.loads(given) if isinstance(given, str) else given
        except ValueError as error:
            raise ValueError(f"it must be a JSON object, such as {VARS_EXAMPLE} ({error})") from error
        if not isinstance(value, dict):
            raise ValueError(f"it must be a JSON object, such as {VARS_EXAMPLE}")
        return value

    @field_validator("vars")
    @classmethod
    def _known_vars(cls, given: dict) -> dict:
        if problems := list(faults(given)):
            raise ValueError("\n".join(problems))
        return given

    @field_validator("schedule", "audit_schedule")
    @classmethod
    def _known_schedule(cls, schedule: str) -> str:
        if schedule not in SCHEDULES and not (len(schedule.split()) == 5 and croniter.is_valid(schedule)):
            raise ValueError("it must be a cron expression of five fields, or a preset such as @continuous or @hourly")
        return schedule

    @field_validator("owner_link")
    @classmethod
    def _known_link(cls, link: str) -> str:
        if link and not re.fullmatch(r"(https?://|mailto:)\S+", link):
            raise ValueError("it must begin with https:// or mailto:")
        return link

    @field_validator("time_zone")
    @classmethod
    def _known_time_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError("it must be an IANA time zone, such as Asia/Kolkata or UTC") from error
        return name

    @field_validator("bucket")
    @classmethod
    def _bucket_name(cls, given: str) -> str:
        name = re.sub(r"^(?i:s3[an]?://)|^arn:aws[a-z-]*:s3:::", "", given.strip()).rstrip("/")
        if not BUCKET.fullmatch(name):
            raise ValueError(
                "it must be a bucket name, such as my-bucket, without a path, a URL or quotes. Set paths with "
                "TALLYMARK_TRANSACTIONS_PREFIX, TALLYMARK_CUSTOMERS_PREFIX and TALLYMARK_OUTPUT_PREFIX"
            )
        return name

    @field_validator("transactions_prefix", "customers_prefix", "output_prefix")
    @classmethod
    def _key_prefix(cls, given: str) -> str:
        prefix = re.sub(r"^[\s/]+|[\s/]+$", "", given)
        if "://" in prefix:
            raise ValueError("it must be a path in the bucket, such as input/. Set the bucket with TALLYMARK_BUCKET")
        if found := re.search(r"//|[*?\[\]\\]|^['\"]|['\"]$|(^|/)[.]{1,2}(/|$)", prefix):
            raise ValueError(
                f"it contains {found[0]!r}. Use a path in the bucket, such as input/, without quotes, wildcards, "
                "empty segments, '.' or '..'"
            )
        return f"{prefix}/" if prefix else ""

    @field_validator("customers_prefix", "output_prefix")
    @classmethod
    def _outside_customer_importance(cls, prefix: str, info: ValidationInfo) -> str:
        """Reject other prefixes below that of the customer importance, because every object there is read as such."""
        transactions: str | None = info.data.get("transactions_prefix")
        customers: str | None = info.data.get("customers_prefix")
        if info.field_name == "customers_prefix":
            customers, inside = prefix, transactions
        else:
            inside = prefix
        if inside is not None and customers is not None and inside.startswith(customers):
            where = f"under {customers!r}" if customers else "in the bucket"
            raise ValueError(
                f"it cannot be used: all objects {where} are read as customer importance, including those under "
                f"{inside!r}. Give the customer importance its own prefix, such as input/customers/"
            )
        return prefix

    @field_validator("server_side_encryption")
    @classmethod
    def _known_encryption(cls, name: str) -> str:
        if name not in ENCRYPTIONS:
            raise ValueError(f"it must be empty or one of {', '.join(filter(None, ENCRYPTIONS))}")
        return name

    @field_validator("kms_key_id")
    @classmethod
    def _for_kms(cls, key: str, info: ValidationInfo) -> str:
        if key and not info.data.get("server_side_encryption", "aws:kms").startswith("aws:kms"):
            raise ValueError("it is only sent with TALLYMARK_SERVER_SIDE_ENCRYPTION=aws:kms. Set that too")
        return key


def _unknown_variables() -> Iterator[str]:
    prefix = Settings.model_config["env_prefix"]
    names = {name.upper().removeprefix(prefix) for name in os.environ if name.upper().startswith(prefix)}
    names -= {name.upper() for name in Settings.model_fields} | TEST_VARIABLES
    unknown = sorted(f"{prefix}{name}" for name in names if not SERVICE_VARIABLE.fullmatch(name))
    if unknown:
        settings = "setting" if len(unknown) == 1 else "settings"
        known = ", ".join(map(variable, Settings.model_fields))
        yield f"Unknown {settings}: {', '.join(unknown)}. Valid settings: {known}"


def variable(field: str) -> str:
    """Return the environment variable of a field of ``Settings``."""
    return f"{Settings.model_config['env_prefix']}{field.upper()}"


def _as_sentences(details: Mapping[str, Any], given: dict[str, Any]) -> Iterator[str]:
    """Describe one of pydantic's errors, one line per problem.

    Args:
        given: arguments of the constructor. Other fields come from the environment and are named by their variable.
    """
    field, value = details["loc"][0], details["input"]
    name = field if field in given else variable(field)
    if details["type"] == "value_error":
        message = str(details["ctx"]["error"])
    elif details["type"] == "literal_error":
        message = f"it must be {details['ctx']['expected']}"
    else:
        message = re.sub(r"^\w+ should", "it must", details["msg"].partition(",")[0])
    for line in message.splitlines():
        shown = f"{name} is {str(value) if isinstance(value, Path) else value!r}" if line.startswith("it ") else name
        yield f"{shown}: {line}"
