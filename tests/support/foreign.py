"""Environment variables left over from other installations; each breaks a program that reads it."""

NOWHERE = "/no/such/place"
NOBODY = "http://127.0.0.1:1"
VARIABLES = {
    "AIRFLOW_HOME": NOWHERE,
    "AIRFLOW_CONFIG": f"{NOWHERE}/airflow.cfg",
    "AIRFLOW__API__SSL_CERT": f"{NOWHERE}/cert.pem",
    "AIRFLOW__API__SSL_KEY": f"{NOWHERE}/key.pem",
    "AIRFLOW__CORE__EXECUTOR": "NoSuchExecutor",
    "AIRFLOW__CORE__FERNET_KEY_CMD": "false",
    "AIRFLOW__CORE__UNIT_TEST_MODE": "True",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://nobody@127.0.0.1:1/none",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": "postgresql+asyncpg://nobody@127.0.0.1:1/none",
    "AIRFLOW__LOGGING__LOGGING_CONFIG_CLASS": "no_such.CONFIG",
    "AIRFLOW__SECRETS__BACKEND": "no_such.Backend",
    "_AIRFLOW_SKIP_DB_TESTS": "true",
    "AWS_ACCESS_KEY_ID": "somebody",
    "AWS_CA_BUNDLE": f"{NOWHERE}/ca.pem",
    "AWS_CONFIG_FILE": f"{NOWHERE}/config",
    "AWS_DEFAULT_REGION": "no where",
    "AWS_ENDPOINT_URL": NOBODY,
    "AWS_ENDPOINT_URL_S3": NOBODY,
    "AWS_MAX_ATTEMPTS": "many",
    "AWS_PROFILE": "no-such-profile",
    "AWS_REGION": "no where",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_SESSION_TOKEN": "token",
    "AWS_SHARED_CREDENTIALS_FILE": f"{NOWHERE}/credentials",
    "BOTO_CONFIG": f"{NOWHERE}/boto.cfg",
    "DBT_EMPTY": "true",
    "DBT_PROFILE": "no_such_profile",
    "DBT_PROFILES_DIR": NOWHERE,
    "DBT_PROJECT_DIR": NOWHERE,
    "DBT_RESOURCE_TYPES": "model",
    "DBT_TARGET": "no_such_target",
    "MAKE_DATA": NOWHERE,
    "OTEL_PROPAGATORS": "no_such_propagator",
    "PYTHONHOME": NOWHERE,
    "PYTHONOPTIMIZE": "2",
    "PYTHONPATH": NOWHERE,
    "PYTHONWARNINGS": "error",
    "RCLONE_ADDR": "127.0.0.1:1",
    "RCLONE_AUTH_PROXY": NOWHERE,
    "RCLONE_CONFIG": NOWHERE,
    "RCLONE_READ_ONLY": "true",
    "ALL_PROXY": "socks5://127.0.0.1:1",
    "all_proxy": "socks5h://127.0.0.1:1",
}
PROXIES = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), NOBODY)

# Variables that a local stack passes on.
KEPT = {
    "AIRFLOW_CONN_SLACK_DEFAULT": "slack://",
    "AIRFLOW_VAR_TEAM": "payments",
    "TALLYMARK_BUCKET": "a-bucket",
    "PATH": "/bin",
    **PROXIES,
}
