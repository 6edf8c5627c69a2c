"""Checks of docs/many-machines.md and deploy/kubernetes that need no broker and no cluster."""

import re
from pathlib import PurePosixPath

import pytest
import yaml
from airflow.configuration import conf
from dotenv import dotenv_values
from tallymark.settings import PROJECT_ROOT, Settings

KUBERNETES = PROJECT_ROOT / "deploy" / "kubernetes"
VALUES_TEXT = (KUBERNETES / "values.yaml").read_text()
VALUES = yaml.safe_load(VALUES_TEXT)
CLAIM = yaml.safe_load((KUBERNETES / "warehouse.yaml").read_text())
ENV = {each["name"]: each["value"] for each in VALUES["env"]}
COMPOSE = yaml.safe_load((PROJECT_ROOT / "docker-compose.yaml").read_text())["services"]
DOCKERFILE = (PROJECT_ROOT / "Dockerfile").read_text()
LOCK = (PROJECT_ROOT / "requirements.txt").read_text()
CELERY_LOCK = (PROJECT_ROOT / "requirements-celery.txt").read_text()
PAGE = (PROJECT_ROOT / "docs" / "many-machines.md").read_text()
COMMANDS = "\n".join(re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
# Settings that differ between pods and the containers of one server.
OF_PODS = {"AIRFLOW__CORE__HOSTNAME_CALLABLE"}


def names(pattern: str, *texts: str) -> set[str]:
    return {name for text in texts for name in re.findall(pattern, text)}


def locked(package: str, lock: str = LOCK) -> str:
    return re.search(rf"^{package}==(\S+)", lock, re.MULTILINE)[1]


def test_only_one_pod_writes():
    scheduler = VALUES["scheduler"]
    assert scheduler["replicas"] == 1
    assert scheduler["strategy"] == {"type": "Recreate"}
    assert VALUES["workers"]["celery"]["persistence"] == {"enabled": False}, "a StatefulSet has no strategy"
    assert CLAIM["spec"]["accessModes"] == ["ReadWriteOncePod"]


def test_only_the_scheduler_mounts_the_warehouse():
    (volume,), (mount,) = VALUES["scheduler"]["extraVolumes"], VALUES["scheduler"]["extraVolumeMounts"]
    assert volume["persistentVolumeClaim"]["claimName"] == CLAIM["metadata"]["name"]
    assert mount["name"] == volume["name"]
    assert PurePosixPath(mount["mountPath"]) == PurePosixPath(ENV["TALLYMARK_WAREHOUSE"]).parent
    assert len(re.findall(r"(?i)volumeMounts", VALUES_TEXT)) == 1


def test_pod_waits_for_its_tasks():
    seconds = int(COMPOSE["scheduler"]["stop_grace_period"].removesuffix("s"))
    assert VALUES["scheduler"]["terminationGracePeriodSeconds"] == seconds


def test_pods_and_containers_have_the_same_settings():
    wanted = COMPOSE["scheduler"]["environment"]
    for name in set(ENV) & set(wanted):
        assert ENV[name] == wanted[name], name
    assert {"TALLYMARK_WAREHOUSE", "AIRFLOW__CORE__DAGS_FOLDER", "AIRFLOW__CORE__PLUGINS_FOLDER"} <= set(ENV)
    assert VALUES["apiServer"]["args"] == COMPOSE["api-server"]["command"]
    assert VALUES["migrateDatabaseJob"]["args"] == COMPOSE["set-up"]["command"].split()


def test_airflow_is_configured_in_one_place():
    wanted = dotenv_values(PROJECT_ROOT / "airflow.env")
    assert "name: airflow-env\n" in VALUES["extraEnvFrom"]
    assert "create configmap airflow-env --from-env-file=airflow.env" in COMMANDS
    assert set(ENV) & set(wanted) == {"AIRFLOW__API__HOST"} | OF_PODS
    assert VALUES["executor"] == wanted["AIRFLOW__CORE__EXECUTOR"]
    assert "Local" in VALUES["executor"], "otherwise the chart does not serve logs from the scheduler"


def test_values_match_the_image():
    assert f"--uid {VALUES['uid']} " in DOCKERFILE
    assert VALUES["airflowVersion"] == locked("apache-airflow")
    for name in ("startupProbe", "livenessProbe"):
        assert VALUES["scheduler"][name]["command"][0] == "airflow", "the chart's command is not in the image"
    assert not VALUES["scheduler"]["logGroomerSidecar"]["enabled"]
    assert VALUES["images"]["airflow"]["repository"] in COMMANDS


def test_page_creates_the_secret():
    keys = {each["secretKey"] for each in VALUES["secret"]}
    keys |= {each["valueFrom"]["secretKeyRef"]["key"] for each in VALUES["apiServer"]["env"]}
    # Names that the chart defines.
    keys |= {"connection", "fernet-key", "api-secret-key", "jwt-secret"}
    assert names(r"--from-literal=([a-z-]+)", COMMANDS) == keys
    named = re.findall(r"secretName: (\S+)|SecretName: (\S+)|secretKeyRef:\n +name: (\S+)", VALUES_TEXT)
    assert {name for each in named for name in each if name} == {"tallymark"}
    assert "create secret generic tallymark " in COMMANDS


def test_settings_exist(monkeypatch):
    own = {name: value for name, value in ENV.items() if name.startswith("TALLYMARK_")}
    assert own
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    Settings()
    known = {f"TALLYMARK_{name}".upper() for name in Settings.model_fields}
    assert names(r"TALLYMARK_[A-Z_]+", PAGE, VALUES_TEXT) <= known


@pytest.mark.parametrize("text", [VALUES_TEXT, COMMANDS], ids=["values", "page"])
def test_airflow_settings_exist(text):
    """Settings of Celery are skipped: they are in a provider that the tests do not install."""
    found = [name.split("__")[1:] for name in names(r"AIRFLOW__[A-Z_]+", text)]
    assert found
    described = conf.configuration_description
    options = {(section, option) for section, each in described.items() for option in each["options"]}
    ours = {(section.lower(), option.lower()) for section, option in found}
    # Options of [core] are also valid in the sections of the parts that may override them.
    unknown = {each for each in ours - options if ("core", each[1]) not in options}
    assert {each for each in unknown if not each[0].startswith("celery")} == set()


def test_celery_lock_includes_the_main_lock():
    lines = [line for line in LOCK.splitlines() if "==" in line]
    assert set(lines) <= set(CELERY_LOCK.splitlines())
    assert locked("celery", CELERY_LOCK) < "5.7", "provider 3.26 cannot import celery 5.7"
    assert locked("apache-airflow-providers-celery", CELERY_LOCK) == "3.26.0", "can this version import 5.7?"


def test_files_in_commands_exist():
    files = names(r"(?:-f|-r|--from-env-file=|\. \./|\. )\s?((?:deploy/|requirements|airflow\.env)\S*?)[;\s]", COMMANDS)
    assert {"deploy/kubernetes/values.yaml", "deploy/kubernetes/warehouse.yaml", "airflow.env"} <= files
    assert [name for name in files if not (PROJECT_ROOT / name).exists()] == []


def test_chart_version_is_the_same_everywhere():
    versions = names(r"chart (\d+\.\d+\.\d+)|--version (\d+\.\d+\.\d+)", PAGE, VALUES_TEXT)
    assert len({version for each in versions for version in each if version}) == 1
