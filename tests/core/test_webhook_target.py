"""Webhooks reach no address that is not public, whatever their name stands for when."""

import asyncio
import socket
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path

import httpx2
import pytest

from app.core import webhook_target
from app.core.webhook_target import RefusedTargetError, Reply, is_public, post

HERE = [ip_network("127.0.0.0/8")]
OK = b"HTTP/1.1 204 No Content\r\n\r\n"


@asynccontextmanager
async def receiver(
    *answers: bytes, stay: bool = False, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that answers so, part by part; its port, and what it got."""
    got: list[bytes] = []
    clients: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        clients.add(writer)
        head = await reader.readuntil(b"\r\n\r\n")
        got.append(head + await reader.readexactly(4))
        for answer in answers:
            writer.write(answer)
        if not stay:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1], got
    finally:
        server.close()
        for writer in clients:
            writer.transport.abort()
        await server.wait_closed()


def names(*answers: str) -> "Names":
    return Names(list(answers))


class Names:
    """A DNS that says something else each time."""

    def __init__(self, answers: list[str]) -> None:
        self.answers, self.asked = answers, 0

    async def __call__(self, host: str, port: int) -> Sequence[str]:  # noqa: ARG002
        self.asked += 1
        return [self.answers.pop(0)] if len(self.answers) > 1 else self.answers


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",  # noqa: S104
        "192.0.0.170", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1",
        "255.255.255.255", "192.88.99.1", "::1", "::", "::ffff:8.8.8.8", "::ffff:127.0.0.1", "::127.0.0.1",
        "64:ff9b::7f00:1", "64:ff9b:1::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254",
        "ff02::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1", "100::1", "5f00::1",
    ],
)  # fmt: skip
async def test_addresses_that_are_not_public(text: str) -> None:
    assert not is_public(ip_address(text))
    with pytest.raises(RefusedTargetError):
        await post("https://example.com/hook", b"body", {}, look_up=names(text))


@pytest.mark.parametrize("text", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "2a00:1450:4001::1"])
def test_addresses_that_are_public(text: str) -> None:
    assert is_public(ip_address(text))


@pytest.mark.parametrize(
    "url",
    ["http://example.com", "ftp://example.com", "https://", "x", "https://a:b@example.com", "file:///etc"],
)
async def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(RefusedTargetError):
        await post(url, b"body", {}, look_up=names("8.8.8.8"))


async def test_numbers_in_disguise_are_looked_up_like_names() -> None:
    for host in ("2130706433", "0x7f000001", "127.1", "[::ffff:127.0.0.1]", "localhost"):
        with pytest.raises((RefusedTargetError, OSError)):
            await post(f"https://{host}/", b"body", {})


async def test_one_private_address_among_public_ones_is_enough() -> None:
    async def both(host: str, port: int) -> Sequence[str]:
        return ["8.8.8.8", "10.0.0.1"]

    with pytest.raises(RefusedTargetError):
        await post("https://example.com/", b"body", {}, look_up=both)


async def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    async with receiver(OK) as (port, got):
        # Given a name that means another machine when it is asked for again
        flips = names("127.0.0.1", "10.0.0.1")
        url = f"http://receiver.test:{port}/hook?x=1"
        reply = await post(url, b"body", {"webhook-id": "msg_1"}, allowed=HERE, look_up=flips)
        assert reply == Reply(204, None)
        assert flips.asked == 1
    head = got[0].decode()
    assert head.startswith("POST /hook?x=1 HTTP/1.1\r\n")
    assert f"\r\nHost: receiver.test:{port}\r\n".lower() in head.lower()
    assert head.endswith("\r\n\r\nbody")


async def test_redirects_are_answers() -> None:
    moved = b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    async with receiver(moved) as (port, got):
        assert (
            await post(f"http://localhost:{port}/", b"body", {}, allowed=HERE, look_up=names("127.0.0.1"))
        ).status == 301
    assert len(got) == 1


async def test_what_a_receiver_answers_is_bounded() -> None:
    # Ten megabytes are not read
    big = b"HTTP/1.1 429 Busy\r\nRetry-After: 7\r\nContent-Length: 10000000\r\n\r\n"
    async with receiver(big, b"x" * 10_000_000) as (port, _):
        assert await post(f"http://127.0.0.1:{port}/", b"body", {}, allowed=HERE) == Reply(429, 7.0)
    # And whoever answers a little at a time is not waited for
    async with receiver(b"HTTP/1.1 200 OK\r\nX", stay=True) as (port, _):
        with pytest.raises(TimeoutError):
            await post(f"http://127.0.0.1:{port}/", b"body", {}, allowed=HERE, timeout=0.3)


async def test_the_certificate_has_to_be_the_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a receiver with a certificate of its name, from somebody we trust
    key, chain = tmp_path / "key.pem", tmp_path / "chain.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=here"]
    words += ["-addext", "subjectAltName=DNS:receiver.test", "-keyout", str(key), "-out", str(chain)]
    subprocess.run(words, check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(chain, key)
    trust = ssl.create_default_context(cafile=str(chain))
    monkeypatch.setattr(webhook_target, "certificates", lambda: trust)
    async with receiver(OK, tls=tls) as (port, _):
        for host, right in (("receiver.test", True), ("other.test", False), ("127.0.0.1", False)):
            sending = post(
                f"https://{host}:{port}/", b"body", {}, allowed=HERE, look_up=names("127.0.0.1"), timeout=30
            )
            if right:
                assert (await sending).status == 204
            else:
                with pytest.raises(httpx2.ConnectError):
                    await sending


async def test_an_address_of_ipv6_is_connected_to() -> None:
    with pytest.raises(httpx2.ConnectError):
        await post(
            "http://receiver.test:1/", b"body", {}, allowed=[ip_network("::1/128")], look_up=names("::1")
        )


async def test_names_that_hang_hold_up_nobody_elses_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer.wait(60) and [])
    try:
        hanging = [
            asyncio.ensure_future(post("https://slow.test/", b"body", {}, timeout=0.2)) for _ in range(40)
        ]
        found = await asyncio.gather(*hanging, return_exceptions=True)
        assert {type(one) for one in found} == {TimeoutError}
        assert await asyncio.wait_for(asyncio.to_thread(lambda: 1), 30) == 1
    finally:
        answer.set()
