"""Every setting of Tallymark, read from environment variables named ``TALLYMARK_<FIELD>``."""

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

# The file's name without its ending is the name of the database, and is read before these schemas.
NO_DATABASES = ("raw", "lake", "output", "snapshot", "main", "temp", "system", "information_schema", "pg_catalog")
# Of the tests and benchmarks.
NOT_SETTINGS = {"BANKSIM", "FIGURES", "MUTANTS", "FUZZ_SEED", "KILLS", "AIRFLOW_KILLS", "SCREENSHOTS"}
# What Kubernetes and Docker tell of a service that is called tallymark.
OF_A_SERVICE = re.compile(r"(.*_)?SERVICE_(HOST|PORT)(_.*)?|(.*_)?PORT(_\d+_.*)?|NAME|ENV_.*")

# How databases, Spark, Hive, pandas, R, Excel and programming languages write a missing value into a CSV file.
MISSING_WORDS = (
    r"NULL,\N,(null),[null],<null>,NaN,-NaN,NaT,None,NA,N/A,<NA>,#N/A,#NA,#NULL!,#REF!,#VALUE!,nil,<nil>,undefined"
)
# What Airflow takes for a schedule besides five fields of cron.
SCHEDULES = {"@continuous", "@once", "@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly"}
VARS_EXAMPLE = '{"child_min_transactions": 60}'
ENCRYPTIONS = ("", "AES256", "aws:kms", "aws:kms:dsse")
# What S3 and servers like it take for a bucket's name, or for the ARN of an access point.
BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*|arn:aws[a-z-]*:s3[a-z-]*:[a-z0-9-]*:[0-9]{12}:[a-zA-Z0-9./:-]+")


class SettingsError(UserError, ValueError):
    """Settings that cannot be used, a line each: the variable that was set, its value, and what is allowed."""


class Limit(NamedTuple):
    """A size limit that is a setting; what it rejects is tried again once it has changed."""

    setting: str
    bytes: int

    def __str__(self) -> str:
        return f"{self.bytes} (setting {self.setting})"


class Limits(NamedTuple):
    """The size limits in force, in bytes: of the objects of a chunk, and of what they unpack to."""

    max_object_bytes: int
    max_unpacked_bytes: int


class Settings(BaseSettings):
    """Where the data is and how it is processed.

    Raises:
        SettingsError: when values cannot be used, or when nothing is called so.
    """

    model_config = SettingsConfigDict(env_prefix="TALLYMARK_", frozen=True, allow_inf_nan=False)

    bucket: str = Field("customer-transactions-detection", min_length=1, description="Name of the S3 bucket.")
    transactions_prefix: str = Field("input/transactions/", description="Where chunks land in the bucket.")
    customers_prefix: str = Field("input/customers/", description="Where the customer importance is in the bucket.")
    output_prefix: str = Field(
        "output/", description="Where detection files, rejected rows and manifests go in the bucket."
    )
    aws_conn_id: str = Field(
        "aws_default",
        description="Airflow connection for S3; its extra holds endpoint_url, region_name and the addressing style "
        "([s3-stores.md](s3-stores.md)).",
    )
    server_side_encryption: str = Field(
        "",
        description="Encryption header that each put sends: `AES256`, `aws:kms` or `aws:kms:dsse`; empty: none, which "
        "leaves it to the bucket.",
    )
    kms_key_id: str = Field(
        "", description="ARN or ID of the KMS key that each put names; only with `aws:kms`. Empty: the bucket's key."
    )
    requester_pays: bool = Field(
        False, description="Whether each call to S3 agrees to pay for it; needed where the bucket's requester pays."
    )

    warehouse: Path = Field(
        PROJECT_ROOT / "warehouse.duckdb", description="The DuckDB file; only one process writes it."
    )
    engine: Literal["duckdb", "spark", "databricks"] = Field(
        "duckdb", description="What holds raw rows and state and runs the models ([spark.md](spark.md))."
    )
    lake_schema: str = Field(
        "tallymark",
        pattern="^[a-z][a-z0-9_]*$",
        description="Beginning of the name of each schema on Spark; each warehouse adds a number of its own.",
    )
    lake_location: str = Field(
        "", description="URI below which Spark creates these schemas; empty: where its metastore does."
    )
    lake_staging: str = Field(
        "",
        description="URI under which Spark reads the bucket, such as `s3a://my-bucket`: rows travel through objects "
        "below the output prefix. Empty: through a folder beside the warehouse, which Spark finds under the same path.",
    )
    databricks_conn_id: str = Field(
        "databricks_default",
        description="Airflow connection that the `build` and `audit` tasks log on to Databricks with, if it exists "
        "([databricks.md](databricks.md)).",
    )
    min_free_bytes: int = Field(
        64 * 2**20,
        ge=0,
        description="Free space, in bytes, that the disk of the warehouse must have before anything is written to the "
        "warehouse; 0 turns the check off.",
    )
    vars: Annotated[dict, NoDecode] = Field({}, description="Thresholds that differ from their defaults, as JSON.")

    schedule: str = Field(
        "* * * * *", description="When detect_patterns runs: a cron expression (UTC), or @continuous."
    )
    audit_schedule: str = Field("30 3 * * *", description="When audit_patterns runs: a cron expression (UTC).")
    queue: str = Field(
        "default",
        min_length=1,
        description="Queue of all tasks, for Airflow on many machines: one worker, on the machine with the warehouse, "
        "takes tasks from it ([many-machines.md](many-machines.md)).",
    )
    max_chunks_per_run: int = Field(
        100, ge=1, le=100_000, description="Chunks in one micro-batch at most; the rest waits for the next run."
    )
    full_listing_seconds: float = Field(
        300,
        ge=0,
        description="How often the whole prefix is listed, in seconds, once it holds more than the 1,000 chunks that "
        "one call shows; a late chunk waits so long at most.",
    )
    folder_settle_seconds: float = Field(
        10,
        ge=0,
        description="Seconds without a new object after which a folder of part files is complete if its _SUCCESS "
        "marker is not newer than its parts, as after a copy.",
    )
    max_object_bytes: int = Field(
        128 * 2**20,
        ge=1,
        description="A chunk whose objects are larger together, in bytes, is rejected whole, without a look.",
    )
    max_unpacked_bytes: int = Field(
        128 * 2**20, ge=1, description="A chunk whose objects unpack to more bytes together is rejected whole."
    )
    missing_words: str = Field(
        MISSING_WORDS,
        description="Words, separated by commas, that mean a missing value in the columns customer, merchant, gender, "
        "amount and weight, in upper or lower case; empty: no word does.",
    )

    speedups: bool = Field(
        True,
        description="Whether to save time by reaching into dbt, botocore and Airflow "
        "([speedups](../plugins/tallymark/speedups/README.md)). `false`: only their public interfaces are used, and a "
        "run takes seconds longer.",
    )

    backtest_rows: int = Field(
        1_000_000,
        ge=1,
        description="Rows that a backtest builds at once; they bound its memory, and how long the stream waits for it.",
    )
    backtest_seconds: float = Field(
        4 * 3600, gt=0, description="A backtest that takes longer, in seconds, is not begun, or stopped."
    )
    backtest_bytes: int = Field(
        20 * 2**30,
        ge=1,
        description="A backtest that needs more disk, in bytes, beside the warehouse is not begun, or stopped.",
    )

    time_zone: str = Field("Asia/Kolkata", description="IANA name; of the two times in a detection file.")
    hold_remainder_seconds: float = Field(
        0, ge=0, description="How many seconds detections that do not fill a file wait for more; 0: not at all."
    )

    lag_limit_seconds: float = Field(
        180,
        gt=0,
        description="More seconds than this from landing to file: it has fallen behind.",
    )
    standstill_seconds: float = Field(
        900, gt=0, description="Nothing has landed for more seconds than this: the stream stands still."
    )

    alert_email: str = Field("", description="Who gets alerts by e-mail, with commas between; empty: nobody.")
    alert_smtp_conn_id: str = Field("smtp_default", description="Airflow connection that sends them, if it exists.")
    alert_slack_conn_id: str = Field(
        "slack_default", description="Airflow connection of a Slack webhook for alerts, if it exists."
    )
    alert_quiet_hours: float = Field(24, gt=0, description="No detection for more hours than this is unusual.")
    alert_many_times: float = Field(10, gt=1, description="So many times the usual detections a chunk are unusual.")
    owner_link: str = Field("", description="https: or mailto: link behind the DAGs' owner; empty: none.")

    feed_source: Path | None = Field(
        None, description="File transactions.csv(.gz) that the feed (`tallymark feed`) puts, chunk by chunk."
    )
    feed_chunk_rows: int = Field(10_000, ge=1, description="Rows in each chunk of the feed.")
    feed_interval_seconds: float = Field(1.0, ge=0, description="Seconds between the chunks of the feed.")

    def __init__(self, **given: Any):
        wrong = list(_unknown_variables())
        try:
            super().__init__(**given)
        except ValidationError as error:
            wrong += [line for found in error.errors() for line in _as_sentences(found, given)]
        if wrong:
            raise SettingsError("\n".join(wrong))

    @property
    def apart(self) -> tuple[str, ...]:
        """Prefixes below that of the transactions that belong to something else."""
        others = (self.customers_prefix, self.output_prefix)
        return tuple(prefix for prefix in others if prefix and prefix.startswith(self.transactions_prefix))

    @property
    def limits(self) -> Limits:
        return Limits(self.max_object_bytes, self.max_unpacked_bytes)

    @property
    def missing_values(self) -> list[str]:
        """The words of ``missing_words`` in lower case."""
        return [word.strip().lower() for word in self.missing_words.split(",") if word.strip()]

    @field_validator("warehouse")
    @classmethod
    def _usable_file(cls, path: Path) -> Path:
        if path.stem.lower() in NO_DATABASES:
            raise ValueError(
                f"it would be a database called {path.stem}, which means something else in SQL. "
                "Give the file another name, such as warehouse.duckdb"
            )
        if not path.name or path.is_dir():
            raise ValueError(f"it is a folder; name a file in it, such as {path / 'warehouse.duckdb'}")
        if found := re.findall(r"""[?#]|['";\x00-\x1f](?=[^/]*$)""", str(path)):
            raise ValueError(f"it has {found[0]!r} in it, which is read as something else; rename it")
        return path

    @field_validator("vars", mode="before")
    @classmethod
    def _from_json(cls, given: Any) -> dict:
        try:
            found = json.loads(given) if isinstance(given, str) else given
        except ValueError as error:
            raise ValueError(f"it must be JSON like {VARS_EXAMPLE} ({error})") from error
        if not isinstance(found, dict):
            raise ValueError(f"it must be JSON like {VARS_EXAMPLE} (there are no names with values in it)")
        return found

    @field_validator("vars")
    @classmethod
    def _known_vars(cls, given: dict) -> dict:
        if wrong := list(faults(given)):
            raise ValueError("\n".join(wrong))
        return given

    @field_validator("schedule", "audit_schedule")
    @classmethod
    def _known_schedule(cls, schedule: str) -> str:
        if schedule not in SCHEDULES and not (len(schedule.split()) == 5 and croniter.is_valid(schedule)):
            raise ValueError("it must be five fields of cron, or @continuous, @hourly, ...")
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
                "it must be the name of a bucket, such as my-bucket, without a path, a URL or quotes. "
                "Paths belong to TALLYMARK_TRANSACTIONS_PREFIX, TALLYMARK_CUSTOMERS_PREFIX and TALLYMARK_OUTPUT_PREFIX"
            )
        return name

    @field_validator("transactions_prefix", "customers_prefix", "output_prefix")
    @classmethod
    def _key_prefix(cls, given: str) -> str:
        prefix = re.sub(r"^[\s/]+|[\s/]+$", "", given)
        if "://" in prefix:
            raise ValueError("it must be a path in the bucket, such as input/; the bucket belongs to TALLYMARK_BUCKET")
        if found := re.search(r"//|[*?\[\]\\]|^['\"]|['\"]$|(^|/)[.]{1,2}(/|$)", prefix):
            raise ValueError(
                f"it has {found[0]!r} in it. Write a path in the bucket, such as input/, without quotes, wildcards and "
                "empty parts"
            )
        return f"{prefix}/" if prefix else ""

    @field_validator("customers_prefix", "output_prefix")
    @classmethod
    def _apart(cls, prefix: str, info: ValidationInfo) -> str:
        """Nothing else lies under the customer importance, all of whose objects are read, and no output is a chunk."""
        transactions: str | None = info.data.get("transactions_prefix")
        customers: str | None = info.data.get("customers_prefix")
        if info.field_name == "customers_prefix":
            customers, inside = prefix, transactions
        else:
            inside = prefix
        if inside is not None and customers is not None and inside.startswith(customers):
            where = repr(customers or "the whole bucket")
            raise ValueError(
                f"it cannot be used: all objects under {where} are read as customer importance, and {inside!r} lies in "
                "there. Give customer importance a prefix of its own, such as input/customers/"
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
            raise ValueError("it is only sent with TALLYMARK_SERVER_SIDE_ENCRYPTION=aws:kms; set that too")
        return key


def _unknown_variables() -> Iterator[str]:
    prefix = Settings.model_config["env_prefix"]
    names = {name.upper().removeprefix(prefix) for name in os.environ if name.upper().startswith(prefix)}
    names -= {name.upper() for name in Settings.model_fields} | NOT_SETTINGS
    unknown = sorted(f"{prefix}{name}" for name in names if not OF_A_SERVICE.fullmatch(name))
    if unknown:
        known = ", ".join(map(variable, Settings.model_fields))
        yield f"unknown settings: {', '.join(unknown)}. There are: {known}"


def variable(field: str) -> str:
    """The environment variable of a field of Settings."""
    return f"{Settings.model_config['env_prefix']}{field.upper()}"


def _as_sentences(found: Mapping[str, Any], given: dict[str, Any]) -> Iterator[str]:
    """Lines about one of pydantic's errors; a field that was not given by the code is named as its variable."""
    field, value = found["loc"][0], found["input"]
    name = field if field in given else variable(field)
    if found["type"] == "value_error":
        said = str(found["ctx"]["error"])
    else:
        said = re.sub(r"^\w+ should", "it must", found["msg"].partition(",")[0])
    for line in said.splitlines():
        shown = f"{name} is {str(value) if isinstance(value, Path) else value!r}" if line.startswith("it ") else name
        yield f"{shown}: {line}"
