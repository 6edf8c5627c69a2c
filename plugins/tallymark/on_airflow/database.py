"""How Airflow connects to PostgreSQL: named by docker-compose.yaml in ``[database] sql_alchemy_connect_args``.

Without it, a connection that the network lost blocks its process for a quarter of an hour.
"""

# For psycopg2: seconds, and milliseconds for tcp_user_timeout.
CONNECT_ARGS = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
# For asyncpg, in seconds. It has no keep-alives.
CONNECT_ARGS_ASYNC = {"timeout": 10, "command_timeout": 30}
