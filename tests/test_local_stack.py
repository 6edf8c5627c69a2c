"""The local stack: its ports."""

import http.server
import socket
import subprocess
import sys

from conftest import HEADER
from tallymark import local_stack

LISTEN = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); input()"


def test_a_server_can_take_a_reserved_port_and_nobody_else_is_given_it(tmp_path):
    (tmp_path / "transactions.csv").write_text(HEADER + "\n")
    stack = local_stack.new_stack(tmp_path, tmp_path)
    ports = [stack.ui_port, stack.execution_port, stack.s3_port]
    assert len(set(ports)) == 3
    for port in ports:
        with http.server.HTTPServer(("127.0.0.1", port), http.server.BaseHTTPRequestHandler):
            assert local_stack.reserve_port(port).getsockname()[1] != port


def test_a_stranger_that_answers_is_not_taken_for_the_server():
    with subprocess.Popen([sys.executable, "-c", LISTEN], stdin=-1, stdout=-1) as ours, socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        assert local_stack.listens(ours, int(ours.stdout.readline()))
        assert not local_stack.listens(ours, stranger.getsockname()[1])
        ours.communicate(b"\n")
