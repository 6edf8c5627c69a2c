"""Shares S3 clients and botocore's API descriptions among all tasks that are forked from a process."""

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import botocore.session

# By kind of client and connection. Tasks inherit the clients of the process that they are forked from.
_clients: dict[str, Any] = {}


def shared_client(kind: str, connection: Any, make: Callable[[], Any]) -> Any:
    """Return a shared boto3 client for a connection that contains its keys.

    Other connections get a new client on each call, because their keys may expire.

    Args:
        kind: clients with different configurations need different kinds.
        connection: an AwsConnectionWrapper.
        make: creates a client.
    """
    if not connection.aws_access_key_id or connection.role_arn:
        return make()
    parts = (connection.region_name, connection.verify, connection.login, connection.password, connection.extra_config)
    known_by = json.dumps([kind, *parts], sort_keys=True)
    if known_by not in _clients:
        _clients[known_by] = make()
    return _clients[known_by]


def share_descriptions() -> None:
    """Let all botocore sessions of this process, and of processes forked from it, share the API descriptions."""
    botocore.session.create_loader = cache(botocore.session.create_loader)
