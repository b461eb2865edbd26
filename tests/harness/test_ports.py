"""Ports are free, different, and out of the way of outgoing connections."""

import socket

from support import ports


def test_a_port_is_free_and_handed_out_once() -> None:
    handed_out = [ports.free_port() for _ in range(50)]
    assert len(set(handed_out)) == 50
    assert all(ports.is_free(port) for port in handed_out)


def test_a_port_with_a_listener_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not ports.is_free(server.getsockname()[1])


def test_outgoing_connections_get_other_ports() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        assert client.getsockname()[1] > ports.LAST_PORT
