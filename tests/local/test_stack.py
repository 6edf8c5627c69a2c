"""A local stack: its ports, its environments, and which of its processes may end."""

import http.server
import subprocess
import sys
from contextlib import nullcontext

import pytest
from support import foreign
from support.streams import HEADER
from tallymark.local import stack as local_stack


def test_reserved_port_is_kept_for_the_server(tmp_path):
    (tmp_path / "transactions.csv").write_text(HEADER + "\n")
    stack = local_stack.new_stack(tmp_path, tmp_path / "transactions.csv")
    ports = [stack.ui_port, stack.execution_port, stack.s3_port]
    assert len(set(ports)) == 3
    for port in ports:
        with http.server.HTTPServer(("127.0.0.1", port), http.server.BaseHTTPRequestHandler):
            assert local_stack.reserve_port(port).getsockname()[1] != port


@pytest.mark.parametrize(("name", "code", "is_error"), [("feed", 0, False), ("feed", 1, True), ("scheduler", 0, True)])
def test_only_feed_may_end(tmp_path, name, code, is_error):
    (tmp_path / "transactions.csv").write_text(HEADER + "\n")
    stack = local_stack.new_stack(tmp_path / "stack", tmp_path / "transactions.csv")
    ended = subprocess.Popen([sys.executable, "-c", f"raise SystemExit({code})"])
    ended.wait(600)
    with pytest.raises(local_stack.StackError, match=f"{name} stopped") if is_error else nullcontext():
        local_stack.check_alive(stack, {name: ended})


def test_environments_of_the_stack_are_isolated(tmp_path, monkeypatch):
    for name, value in (foreign.VARIABLES | foreign.KEPT).items():
        monkeypatch.setenv(name, value)
    (tmp_path / "transactions.csv").write_text(HEADER + "\n")
    stack = local_stack.new_stack(tmp_path / "stack", tmp_path / "transactions.csv")
    for environment in (stack.environment(), stack.feed_environment()):
        assert not set(foreign.VARIABLES.items()) & set(environment.items())
        assert set(foreign.KEPT.items()) <= set(environment.items())
