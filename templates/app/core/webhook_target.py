"""Posts to addresses that strangers have given: only to public ones, checked on the connection that is made.

The name is looked up once, what it stands for is checked, and the connection goes to just that address. So a
name that means something else a moment later (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import httpx2

from app.core.outcomes import PermanentError
from app.core.retry import parse_retry_after

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
LookUp = Callable[[str, int], Awaitable[Sequence[str]]]

# Threads of their own: a name that takes long to look up, a stranger's doing, holds up nothing else.
LOOKING_UP = ThreadPoolExecutor(64, "webhook-names")
# Of IPv6 only this is unicast on the internet: it leaves out mapped IPv4 and NAT64, which lead elsewhere.
GLOBAL_V6 = ip_network("2000::/3")
# 6to4 and Teredo have an IPv4 address inside; the rest is for documents and protocols.
NOT_PUBLIC = [
    ip_network(text)
    for text in ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
]


class RefusedTargetError(PermanentError):
    """Nothing is sent to this address."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a receiver has answered; `retry_after` is in seconds."""

    status: int
    retry_after: float | None


async def look_up(host: str, port: int) -> Sequence[str]:
    """The addresses of a name."""
    ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await asyncio.get_running_loop().run_in_executor(LOOKING_UP, ask)
    return [str(address[0]) for *_, address in found]


async def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    timeout: float = 10.0,
    allowed: Sequence[Network] = (),
    look_up: LookUp = look_up,
) -> Reply:
    """Post to a public address over https; to those of `allowed`, which may be private, over http, too. No
    redirect is followed and the answer's body is not read. `timeout` is for all of it.

    Raises RefusedTargetError, TimeoutError, OSError for a name that is not known, and httpx2's errors.
    """
    target = parse(url)
    port = target.port or (443 if target.scheme == "https" else 80)
    async with asyncio.timeout(timeout):
        address = choose(target, await look_up(target.raw_host.decode(), port), allowed)
        # Neither a proxy nor credentials of the environment: they would make the check meaningless.
        async with (
            httpx2.AsyncClient(
                trust_env=False, follow_redirects=False, timeout=timeout, verify=certificates()
            ) as client,
            client.stream(
                "POST",
                target.copy_with(host=str(address)),
                content=body,
                headers={**headers, "Host": target.netloc.decode(), "Accept-Encoding": "identity"},
                extensions={"sni_hostname": target.raw_host.decode()},  # the certificate is the name's
            ) as response,
        ):
            return Reply(response.status_code, parse_retry_after(response.headers))


@cache
def certificates() -> ssl.SSLContext:
    """Whom we trust; to load them is most of what a client costs."""
    return httpx2.create_ssl_context()


def parse(url: str) -> httpx2.URL:
    """The URL. Raises RefusedTargetError for what a webhook cannot be sent to, whatever it stands for."""
    try:
        target = httpx2.URL(url)
    except (httpx2.InvalidURL, UnicodeError) as error:
        raise RefusedTargetError(f"no URL: {error}") from None
    if target.scheme not in {"http", "https"} or not target.host:
        raise RefusedTargetError("an https URL is needed")
    if target.userinfo:
        raise RefusedTargetError("a URL without a user and a password is needed")
    return target


def choose(target: httpx2.URL, found: Sequence[str], allowed: Sequence[Network]) -> Address:
    """The address to connect to. Raises RefusedTargetError when any of those found is not to be."""
    addresses = [ip_address(text) for text in found]
    inside = bool(addresses) and all(any(ip in network for network in allowed) for ip in addresses)
    if inside:
        return addresses[0]
    if target.scheme != "https":
        raise RefusedTargetError("an https URL is needed")
    if not addresses or not all(map(is_public, addresses)):
        raise RefusedTargetError(f"{target.host} is not a public address")
    return addresses[0]


def is_public(address: Address) -> bool:
    """Whether it is an address of the internet that anybody may be sent to."""
    if isinstance(address, IPv6Address) and (address not in GLOBAL_V6 or address.scope_id):
        return False
    inside = any(address in network for network in NOT_PUBLIC)
    return address.is_global and not address.is_multicast and not address.is_reserved and not inside
