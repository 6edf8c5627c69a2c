"""Clients of S3 and what they are made of, once for all tasks that are forked from a process."""

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import botocore.session

# By kind of client and connection. Tasks inherit those of the process that they are forked from.
_clients: dict[str, Any] = {}


def shared_client(kind: str, connection: Any, make: Callable[[], Any]) -> Any:
    """A boto3 client, made once for a connection that holds its keys; of another one, keys may change with time.

    Args:
        kind: clients of different kinds have different configurations.
        connection: an AwsConnectionWrapper.
    """
    if not connection.aws_access_key_id or connection.role_arn:
        return make()
    parts = (connection.region_name, connection.verify, connection.login, connection.password, connection.extra_config)
    known_by = json.dumps([kind, *parts], sort_keys=True)
    if known_by not in _clients:
        _clients[known_by] = make()
    return _clients[known_by]


def share_descriptions() -> None:
    """Let sessions of this process, and of those forked from it, share botocore's descriptions of services."""
    botocore.session.create_loader = cache(botocore.session.create_loader)
