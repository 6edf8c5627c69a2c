"""Connection timeouts for PostgreSQL, which docker-compose.yaml sets as ``[database] sql_alchemy_connect_args``.

Without them, a lost network connection blocks its process for 15 minutes.
"""

# For psycopg2, in seconds, except tcp_user_timeout, which is in milliseconds.
CONNECT_ARGS = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
# For asyncpg, in seconds. It has no keepalives.
CONNECT_ARGS_ASYNC = {"timeout": 10, "command_timeout": 30}
