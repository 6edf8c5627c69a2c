"""The isolated environment has no variables of other installations."""

import os

import pytest
from support import foreign
from tallymark.local.isolation import isolated


@pytest.mark.parametrize("name", foreign.VARIABLES)
def test_foreign_variable_is_dropped(name):
    kept = isolated({name: foreign.VARIABLES[name], "HOME": "/home"})
    assert kept["HOME"] == "/home"
    # The stack points the AWS files to an empty one.
    assert kept.get(name) in (None, os.devnull)


@pytest.mark.parametrize("name", foreign.KEPT)
def test_own_variable_is_kept(name):
    assert isolated(foreign.KEPT)[name] == foreign.KEPT[name]


@pytest.mark.parametrize(
    ("given", "exempt"),
    [
        ({}, {"127.0.0.1", "localhost"}),
        ({"NO_PROXY": "example.com, .corp "}, {"127.0.0.1", "localhost", "example.com", ".corp"}),
        ({"NO_PROXY": "*"}, {"*"}),
        ({"NO_PROXY": "a", "no_proxy": "b,127.0.0.1,"}, {"127.0.0.1", "localhost", "a", "b"}),
    ],
)
def test_loopback_is_exempt_from_proxies(given, exempt):
    kept = isolated(given | foreign.PROXIES)
    assert set(kept["NO_PROXY"].split(",")) == set(kept["no_proxy"].split(",")) == exempt
