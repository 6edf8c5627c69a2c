"""An environment without the variables of other installations."""

import os

import pytest
from support import foreign
from tallymark.local.isolation import isolated


@pytest.mark.parametrize("name", foreign.VARIABLES)
def test_foreign_variable_is_dropped(name):
    kept = isolated({name: foreign.VARIABLES[name], "HOME": "/home"})
    assert kept["HOME"] == "/home"
    # The stack names AWS files that hold nothing.
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
def test_no_proxy_is_asked_for_loopback(given, exempt):
    kept = isolated(given | foreign.PROXIES)
    assert set(kept["NO_PROXY"].split(",")) == set(kept["no_proxy"].split(",")) == exempt
