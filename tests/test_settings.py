"""Invalid settings are rejected with a line that names the variable, its value and what is allowed."""

import json
import re

import pytest
from tallymark.patterns import thresholds
from tallymark.settings import Settings, SettingsError


@pytest.mark.parametrize("name", ["raw.duckdb", "Output.db", "snapshot", "main.duckdb", "temp.duckdb", "system.duckdb"])
def test_warehouse_named_like_a_schema_is_rejected(tmp_path, name):
    with pytest.raises(SettingsError, match=r"must not be named .*\. Rename the file, for example to ware"):
        Settings(warehouse=tmp_path / name)


@pytest.mark.parametrize("name", ["it's.duckdb", 'a"b.duckdb', "a;b.duckdb", "a#b/w.duckdb", "a?b/w.duckdb", "w\n.db"])
def test_warehouse_path_with_special_characters_is_rejected(tmp_path, name):
    with pytest.raises(SettingsError, match=r"contains .*, which DuckDB or SQL would misread\. Use another path"):
        Settings(warehouse=tmp_path / name)


@pytest.mark.parametrize("path", ["", ".", "/"])
def test_warehouse_folder_is_rejected(path):
    with pytest.raises(SettingsError, match=r"is a folder\. Set it to a file in that folder"):
        Settings(warehouse=path)


@pytest.mark.parametrize("name", ["warehouse", "ware house.duckdb", "it's/raw/w.db", "a.b.c", "ünï.duckdb", "1.duckdb"])
def test_other_warehouse_names_are_accepted(tmp_path, name):
    assert Settings(warehouse=tmp_path / name).warehouse == tmp_path / name


WRONG = {
    "max_chunks_per_run": ("abc", " is 'abc': it must be a valid integer"),
    "max_object_bytes": ("1.5", " is '1.5': it must be a valid integer"),
    "full_listing_seconds": ("-1", " is '-1': it must be greater than or equal to 0"),
    "lag_limit_seconds": ("nan", " is 'nan': it must be a finite number"),
    "hold_remainder_seconds": ("inf", " is 'inf': it must be a finite number"),
    "alert_many_times": ("1", " is '1': it must be greater than 1"),
    "bucket": ("", " is '': it must have at least 1 character"),
    "schedule": (
        "61 * * * *",
        " is '61 * * * *': it must be a cron expression of five fields, or a preset such as @continuous or @hourly",
    ),
    "audit_schedule": (
        "* * * * * *",
        " is '* * * * * *': it must be a cron expression of five fields, or a preset such as @continuous or @hourly",
    ),
    "time_zone": ("America", " is 'America': it must be an IANA time zone, such as Asia/Kolkata or UTC"),
    "owner_link": ("javascript:x", " is 'javascript:x': it must begin with https:// or mailto:"),
    "server_side_encryption": (
        "aes-256",
        " is 'aes-256': it must be empty or one of AES256, aws:kms, aws:kms:dsse",
    ),
    "requester_pays": ("perhaps", " is 'perhaps': it must be a valid boolean"),
    "engine": ("postgres", " is 'postgres': it must be 'duckdb', 'spark' or 'databricks'"),
    "vars": (
        "{a",
        " is '{a': it must be a JSON object, such as {\"child_min_transactions\": 60} (Expecting property name",
    ),
}


def set_variables(monkeypatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"TALLYMARK_{name.upper()}", value)


@pytest.mark.parametrize("name", WRONG)
def test_error_names_the_variable_and_its_value(monkeypatch, name):
    value, says = WRONG[name]
    set_variables(monkeypatch, **{name: value})
    with pytest.raises(SettingsError) as error:
        Settings()
    assert str(error.value).startswith(f"TALLYMARK_{name.upper()}{says}")
    assert len(str(error.value).splitlines()) == 1


def test_each_invalid_value_has_its_own_line(monkeypatch):
    set_variables(monkeypatch, no_such="1", **{name: value for name, (value, _) in WRONG.items()})
    with pytest.raises(SettingsError) as error:
        Settings(feed_chunk_rows=0)
    unknown, *lines = str(error.value).splitlines()
    assert unknown.startswith("Unknown setting: TALLYMARK_NO_SUCH. Valid settings: TALLYMARK_BUCKET, ")
    expected = {f"TALLYMARK_{name.upper()} is" for name in WRONG} | {"feed_chunk_rows is"}
    assert {" ".join(line.split()[:2]) for line in lines} == expected
    assert len(lines) == len(expected)


@pytest.mark.parametrize(
    "given",
    ["s3://my-bucket", "s3://my-bucket/", "S3A://my-bucket", " my-bucket\n", "my-bucket/", "arn:aws:s3:::my-bucket"],
)
def test_bucket_is_normalized(monkeypatch, given):
    set_variables(monkeypatch, bucket=given)
    assert Settings().bucket == "my-bucket"


@pytest.mark.parametrize("name", ["b", "my.bucket_1", "arn:aws:s3:eu-west-1:123456789012:accesspoint/mine"])
def test_bucket_name_is_accepted(name):
    assert Settings(bucket=name).bucket == name


@pytest.mark.parametrize(
    "given",
    ["s3://my-bucket/input", "my-bucket/input/", "'my-bucket'", '"b"', "https://b.s3.amazonaws.com", "s3://", " "],
)
def test_invalid_bucket_is_rejected(monkeypatch, given):
    set_variables(monkeypatch, bucket=given)
    with pytest.raises(SettingsError) as error:
        Settings()
    assert str(error.value).startswith(f"TALLYMARK_BUCKET is {given!r}: it must be a bucket name, such as my-bucket, ")


@pytest.mark.parametrize("name", ["transactions_prefix", "customers_prefix", "output_prefix"])
@pytest.mark.parametrize("given", ["a b/c/", "/a b/c/", " a b/c ", "a b/c", "//a b/c//", "/ a b/c/ /"])
def test_prefix_is_normalized(monkeypatch, name, given):
    set_variables(monkeypatch, **{name: given})
    assert getattr(Settings(), name) == "a b/c/"


@pytest.mark.parametrize("name", ["transactions_prefix", "output_prefix"])
@pytest.mark.parametrize("given", ["", "/", " "])
def test_prefix_may_be_empty(monkeypatch, name, given):
    set_variables(monkeypatch, **{name: given})
    assert getattr(Settings(), name) == ""


@pytest.mark.parametrize("name", ["transactions_prefix", "customers_prefix", "output_prefix"])
@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            "s3://my-bucket/input/",
            "it must be a path in the bucket, such as input/. Set the bucket with TALLYMARK_BUCKET",
        ),
        (
            "input//chunks/",
            "it contains '//'. Use a path in the bucket, such as input/, without quotes, wildcards, empty",
        ),
        ("input/*", "it contains '*'. "),
        ("input/chunk_?", "it contains '?'. "),
        ("input/[0-9]/", "it contains '['. "),
        ("input\\chunks", "it contains '\\\\'. "),
        ("'input/'", 'it contains "\'". '),
        ("./input", "it contains './'. "),
        ("input/../other", "it contains '/../'. "),
    ],
)
def test_invalid_prefix_is_rejected(monkeypatch, name, given, says):
    set_variables(monkeypatch, **{name: given})
    with pytest.raises(SettingsError) as error:
        Settings()
    assert str(error.value).startswith(f"TALLYMARK_{name.upper()} is {given!r}: {says}")
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"customers_prefix": ""}, "customers_prefix"),
        ({"customers_prefix": "input"}, "customers_prefix"),
        ({"customers_prefix": "input/transactions"}, "customers_prefix"),
        ({"output_prefix": "input/customers/out"}, "output_prefix"),
    ],
)
def test_prefix_below_customer_importance_is_rejected(monkeypatch, given, name):
    set_variables(monkeypatch, **given)
    variable = f"TALLYMARK_{name.upper()}"
    with pytest.raises(SettingsError, match=f"^{variable} is .*: it cannot be used: all objects .* are read as"):
        Settings()


def test_other_nested_prefixes_are_accepted():
    settings = Settings(transactions_prefix="", customers_prefix="customers", output_prefix="out")
    assert (settings.transactions_prefix, settings.customers_prefix) == ("", "customers/")
    assert Settings(transactions_prefix="in", customers_prefix="in/customers").customers_prefix == "in/customers/"


@pytest.mark.parametrize("name", ["AES256", "aws:kms", "aws:kms:dsse"])
def test_encryption_is_accepted(name):
    key = "" if name == "AES256" else "arn:aws:kms:eu-west-1:123456789012:key/mine"
    assert Settings(server_side_encryption=name, kms_key_id=key).server_side_encryption == name


@pytest.mark.parametrize("encryption", ["", "AES256"])
def test_key_without_kms_is_rejected(monkeypatch, encryption):
    set_variables(monkeypatch, server_side_encryption=encryption, kms_key_id="key")
    with pytest.raises(SettingsError, match=r"^TALLYMARK_KMS_KEY_ID is 'key': it is only sent with"):
        Settings()


@pytest.mark.parametrize("schedule", ["* * * * *", "*/5 8-18 * * MON-FRI", "@continuous", "@hourly", "@daily"])
def test_schedule_is_accepted(schedule):
    assert Settings(schedule=schedule, audit_schedule=schedule).schedule == schedule


@pytest.mark.parametrize("vars", ["[1]", "7", "null", "abc", '"abc"', ""])
def test_vars_must_be_a_mapping(monkeypatch, vars):
    set_variables(monkeypatch, vars=vars)
    with pytest.raises(
        SettingsError, match=f"TALLYMARK_VARS is {re.escape(repr(vars))}: it must be a JSON object, such as "
    ):
        Settings()


NUMBER = "it must be a number from 0 to 999999999999 with at most 6 decimals"


@pytest.mark.parametrize(
    "value", ["abc", -1, "-1", True, None, [1], 1e-7, 10**12, "1.1234567", "", "1,5", float("nan")]
)
def test_invalid_threshold_is_rejected(monkeypatch, value):
    with pytest.raises(SettingsError) as error:
        Settings(vars={"child_min_transactions": value, "upgrade_weight_aggregate": "median"})
    assert str(error.value).splitlines() == [
        f"vars: child_min_transactions is {value!r}: {NUMBER}",
        "vars: upgrade_weight_aggregate is 'median': it must be one of sum, avg, min, max",
    ]


@pytest.mark.parametrize("value", [0, 60, "60", " 60 ", 22.5, "0.000001", 100])
def test_valid_threshold_is_accepted(monkeypatch, value):
    given = {name: value for name in thresholds() if name != "upgrade_weight_aggregate"}
    given |= {"upgrade_weight_aggregate": "max"}
    set_variables(monkeypatch, vars=json.dumps(given))
    assert Settings().vars == given
