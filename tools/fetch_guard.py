"""One gate for every URL that a tool fetches, so that none leads inside.

The name is parsed once, resolved once, and the connection goes to the very address that was
checked: a name that answers differently the second time gains nothing. Each redirect passes the
same gate. No proxy, cookie or credential is ever used.
"""

from __future__ import annotations

import http.client
import ipaddress
import re
import socket
import ssl
import time
import unicodedata
from collections.abc import Callable, Sequence
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

from langchain_core.tools import BaseTool

from agentmesh.errors import InputError
from agentmesh.tools.addresses import IPAddress, inside
from agentmesh.tools.declarations import tool

_MAX_URL = 2_000
_CHUNK = 65_536
_NUMBER = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)", re.IGNORECASE)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_QUAD = re.compile(
    r"(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
)
_HOME = ("localhost", "local", "internal", "intranet", "lan", "home", "corp", "arpa", "localdomain")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TEXTUAL = ("text/", "application/json", "application/xml", "application/xhtml", "application/ld")

Resolve = Callable[[str, int], Sequence[str]]
"""Returns every address of a host name."""

Connect = Callable[[tuple[str, int], float], socket.socket]
"""Opens a connection to an address and port within some seconds."""


class Target(NamedTuple):
    """A URL that passed, and the address that it will be fetched from."""

    scheme: str
    host: str
    port: int
    path: str
    address: str


class Page(NamedTuple):
    """What a URL gave: the URL at the end of its redirects, the status, and the content."""

    url: str
    status: int
    kind: str
    body: bytes


def lookup(host: str, port: int) -> list[str]:
    """Return every address of `host`, as the system's resolver tells."""
    rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(row[4][0]) for row in rows))


def dial(address: tuple[str, int], timeout_s: float) -> socket.socket:
    """Open a TCP connection."""
    return socket.create_connection(address, timeout_s)


class FetchGuard:
    """Decides on URLs, and fetches those that pass.

    Args:
        hosts: If given, the only hosts allowed (and what lies below them).
        ports: The only ports allowed.
        resolve: Finds a name's addresses.
        connect: Opens the connection to the address that was checked.
    """

    def __init__(
        self,
        *,
        hosts: Sequence[str] | None = None,
        ports: Sequence[int] = (80, 443),
        resolve: Resolve = lookup,
        connect: Connect = dial,
    ) -> None:
        self.hosts = None if hosts is None else frozenset(host.lower() for host in hosts)
        self.ports = frozenset(ports)
        self._resolve, self._connect = resolve, connect

    def check(self, url: str) -> Target:
        """Return where `url` leads, or raise InputError if it leads inside or is unclear."""
        if not url or len(url) > _MAX_URL:
            raise _refused(url, "is empty or too long")
        if any(char.isspace() or unicodedata.category(char)[0] == "C" for char in url):
            raise _refused(url, "holds spaces or control characters")
        if "\\" in url:
            raise _refused(url, "holds a backslash")
        try:
            split = urlsplit(url)
            port = split.port
        except ValueError as error:
            raise _refused(url, f"cannot be read: {error}") from error
        if split.scheme not in {"http", "https"} or not split.netloc:
            raise _refused(url, "is no http or https address")
        if "@" in split.netloc:
            raise _refused(url, "holds a user name")
        port = port or (443 if split.scheme == "https" else 80)
        if port not in self.ports:
            raise _refused(url, f"asks for port {port}")
        host, literal = _host(url, split.hostname or "", bracketed="[" in split.netloc)
        self._check_host(url, host)
        path = (split.path or "/") + (f"?{split.query}" if split.query else "")
        return Target(split.scheme, host, port, path, self._address(url, host, port, literal))

    def _check_host(self, url: str, host: str) -> None:
        if self.hosts is None:
            return
        names = host.split(".")
        if not any(".".join(names[at:]) in self.hosts for at in range(len(names))):
            raise _refused(url, "is on no allowed host")

    def _address(self, url: str, host: str, port: int, literal: IPAddress | None) -> str:
        """Return the address to connect to; one that leads inside refuses the whole name."""
        if literal is not None:
            found: list[IPAddress] = [literal]
        else:
            try:
                found = [ipaddress.ip_address(text) for text in self._resolve(host, port)]
            except (OSError, UnicodeError, ValueError) as error:
                raise _refused(url, "has no address") from error
        for address in found:
            if why := inside(address):
                raise _refused(url, f"leads to {address}, which is {why}")
        if not found:
            raise _refused(url, "has no address")
        return str(found[0])

    def fetch(
        self, url: str, *, max_bytes: int = 2_000_000, timeout_s: float = 15.0, redirects: int = 5
    ) -> Page:
        """Return what `url` gives, each redirect checked anew; the first `max_bytes` of it."""
        until = time.monotonic() + timeout_s
        target = self.check(url)
        for _ in range(redirects + 1):
            try:
                page, onward = self._get(url, target, max_bytes, until)
            except (OSError, http.client.HTTPException, ValueError) as error:
                kind = type(error).__name__
                raise InputError(f"{url!r} did not answer: {kind}", hint="try later") from error
            if onward is None:
                return page
            url, before = urljoin(url, onward), target
            target = self.check(url)
            if before.scheme == "https" and target.scheme == "http":
                raise _refused(url, "is where an https address redirects to, in the clear")
        raise _refused(url, f"comes after {redirects} redirects")

    def _get(
        self, url: str, target: Target, max_bytes: int, until: float
    ) -> tuple[Page, str | None]:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection = _Pinned(target, self._connect, left)
        try:
            headers = {"Accept-Encoding": "identity", "User-Agent": "agentmesh", "Accept": "*/*"}
            connection.request("GET", target.path, headers=headers)
            answer = connection.getresponse()
            if answer.status in _REDIRECTS and (onward := answer.getheader("Location")):
                return Page(url, answer.status, "", b""), onward
            if (answer.getheader("Content-Encoding") or "identity").lower() != "identity":
                raise _refused(url, "answers compressed though asked not to")
            body = bytearray()
            while len(body) < max_bytes:
                if time.monotonic() > until:
                    raise TimeoutError
                chunk = answer.read1(min(_CHUNK, max_bytes - len(body)))
                if not chunk:
                    break
                body += chunk
            kind = (answer.getheader("Content-Type") or "").lower()
            return Page(url, answer.status, kind, bytes(body)), None
        finally:
            connection.close()

    def tool(self) -> BaseTool:
        """Return the tool that reads a page; what it gives is untrusted text."""

        def fetch_url(url: str) -> str:
            """Read a public web page and return its text.

            Args:
                url: The http or https address.
            """
            page = self.fetch(url)
            if not page.kind.startswith(_TEXTUAL):
                return f"[{page.status}, {page.kind or 'no type'}, {len(page.body):,} bytes]"
            return f"[{page.status}]\n{page.body.decode('utf-8', 'replace')}"

        return tool(side_effect="external", idempotent=True, sends="public", trust="untrusted")(
            fetch_url
        )


class _Pinned(http.client.HTTPConnection):
    """A connection to the address that was checked, under the name that was asked for."""

    def __init__(self, target: Target, connect: Connect, timeout_s: float) -> None:
        host = f"[{target.host}]" if ":" in target.host else target.host
        super().__init__(host, target.port, timeout=timeout_s)
        self._target, self._open, self._seconds = target, connect, timeout_s
        self.default_port = 443 if target.scheme == "https" else 80

    def connect(self) -> None:
        sock = self._open((self._target.address, self._target.port), self._seconds)
        if self._target.scheme == "https":
            context = ssl.create_default_context()
            sock = context.wrap_socket(sock, server_hostname=self._target.host)
        self.sock = sock


def _host(url: str, shown: str, *, bracketed: bool) -> tuple[str, IPAddress | None]:
    """Return a URL's host in its one spelling, and its address if it is one."""
    if bracketed or ":" in shown:
        try:
            address = ipaddress.IPv6Address(shown)
        except ValueError as error:
            raise _refused(url, "holds no IPv6 address") from error
        if address.scope_id is not None:
            raise _refused(url, "names a network interface")
        return str(address), address
    try:
        host = shown.encode("idna").decode("ascii").lower().removesuffix(".")
    except UnicodeError as error:
        raise _refused(url, "holds no valid host name") from error
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        if not _QUAD.fullmatch(host):
            raise _refused(url, "writes an address in a misleading way")
        return host, ipaddress.IPv4Address(host)
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise _refused(url, "holds no valid host name")
    if len(labels) < 2 or labels[-1] in _HOME:
        raise _refused(url, "names a host inside")
    return host, None


def _refused(url: str, why: str) -> InputError:
    return InputError(f"{url[:200]!r} {why}", hint="use a public http or https address")
