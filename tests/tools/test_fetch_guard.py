from __future__ import annotations

import http.server
import ipaddress
import socket
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.errors import InputError
from agentmesh.tools import declaration
from agentmesh.tools.addresses import inside
from agentmesh.tools.fetch_guard import FetchGuard

PUBLIC = "93.184.215.14"


def _resolve(host: str, port: int) -> Sequence[str]:
    return [PUBLIC]


GUARD = FetchGuard(resolve=_resolve, ports=range(1, 65536))

BAD = [
    # schemes and shapes
    "",
    "file:///etc/passwd",
    "ftp://example.com/",
    "gopher://127.0.0.1:25/_HELO",
    "dict://127.0.0.1:11211/",
    "data:text/plain,hello",
    "javascript:alert(1)",
    "//example.com/",
    "example.com",
    "http://",
    "http:///etc/passwd",
    "http:example.com",
    "http://example.com/ HTTP/1.1\r\nHost: inside",
    "http://exa\tmple.com/",
    "http://example.com\x00.inside/",
    "http://example.com\\@127.0.0.1/",
    "http://example.com:99999/",
    "http://example.com:http/",
    "http://" + "a" * 3000 + ".com/",
    # user names
    "http://example.com@127.0.0.1/",
    "http://user:pass@example.com/",
    "http://127.0.0.1#@example.com/",
    "http://@example.com/",
    # loopback, private and the like
    "http://127.0.0.1/",
    "http://127.1.2.3:8080/",
    "http://0.0.0.0/",
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://172.31.255.255/",
    "http://192.168.1.1/",
    "http://100.64.0.1/",
    "http://100.127.255.254/",
    "http://198.18.0.1/",
    "http://192.0.2.1/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
    "http://240.0.0.1/",
    # metadata
    "http://169.254.169.254/latest/meta-data/",
    "http://169.254.170.2/v2/credentials",
    "http://100.100.100.200/latest/meta-data/",
    "http://192.0.0.192/opc/v2/",
    "http://168.63.129.16/metadata",
    "http://metadata.google.internal/computeMetadata/v1/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    # numbers in disguise
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.0.0.1/",
    "http://0177.0.0.1/",
    "http://017700000001/",
    "http://127.1/",
    "http://127.0.1/",
    "http://0/",
    "http://0x0/",
    "http://127.0.0.1./",
    "http://00000127.0.0.1/",
    "http://1.1.1.256/",
    "http://3232235777/",
    "http://169.254.43518/",
    "http://0251.0376.0251.0376/",
    "http://425.510.425.510/",
    "http://127.0.0.0x1/",
    "http://１２７.０.０.１/",
    "http://①②⑦.⓪.⓪.①/",
    "http://127。0。0。1/",
    "http://127%2e0%2e0%2e1/",
    # names
    "http://localhost/",
    "http://LOCALHOST/",
    "http://localhost./",
    "http://foo.localhost/",
    "http://ⓛocalhost/",
    "http://printer.local/",
    "http://db.internal/",
    "http://router.lan/",
    "http://intranet/",
    "http://1.0.0.127.in-addr.arpa/",
    "http://exa mple.com/",
    "http://example..com/",
    "http://-example.com/",
    "http://exam\u200bple\u2028.com/",
    # IPv6
    "http://[::1]/",
    "http://[::]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::ffff:93.184.215.14]/",
    "http://[0:0:0:0:0:ffff:169.254.169.254]/",
    "http://[::127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[64:ff9b::169.254.169.254]/",
    "http://[64:ff9b:1::a00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[2002:a9fe:a9fe::1]/",
    "http://[2001:0:7f00:1::]/",
    "http://[2607:f8b0::200:5efe:127.0.0.1]/",
    "http://[2607:f8b0::5efe:a00:1]/",
    "http://[fe80::1]/",
    "http://[fe80::1%25eth0]/",
    "http://[fc00::1]/",
    "http://[fdff::1]/",
    "http://[ff02::1]/",
    "http://[2001:db8::1]/",
    "http://[3fff::1]/",
    "http://[100::1]/",
    "http://[::1",
    "http://[not-an-address]/",
    "http://[v1.fe80]/",
]


@pytest.mark.parametrize("url", BAD, ids=lambda url: ascii(url)[:60])
def test_a_url_that_leads_inside_is_refused(url: str) -> None:
    with pytest.raises(InputError) as caught:
        GUARD.check(url)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        ("https://example.com", "example.com", 443, "/"),
        ("http://example.com:8080/a?b=c#d", "example.com", 8080, "/a?b=c"),
        ("HTTPS://EXAMPLE.com/A", "example.com", 443, "/A"),
        ("http://bücher.example/", "xn--bcher-kva.example", 80, "/"),
        ("http://example.com./", "example.com", 80, "/"),
        ("http://sub_domain.example.co.uk/", "sub_domain.example.co.uk", 80, "/"),
    ],
)
def test_a_public_url_passes_and_is_pinned(url: str, host: str, port: int, path: str) -> None:
    target = GUARD.check(url)
    assert (target.host, target.port, target.path, target.address) == (host, port, path, PUBLIC)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.215.14", "[2606:4700::1111]"])
def test_a_public_address_passes(address: str) -> None:
    assert GUARD.check(f"http://{address}/").address == address.strip("[]")


@pytest.mark.parametrize(
    "answers",
    [
        ["127.0.0.1"],
        [PUBLIC, "10.0.0.1"],
        [PUBLIC, "::1"],
        ["::ffff:10.0.0.1"],
        ["169.254.169.254"],
        ["fe80::1"],
        ["no address"],
        [],
    ],
)
def test_a_name_with_any_address_inside_is_refused(answers: list[str]) -> None:
    with pytest.raises(InputError):
        FetchGuard(resolve=lambda host, port: answers).check("http://example.com/")


def test_a_name_that_cannot_be_resolved_is_refused() -> None:
    def fail(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror("no such name")

    with pytest.raises(InputError, match="no address"):
        FetchGuard(resolve=fail).check("http://example.com/")


def test_only_named_hosts_and_ports_pass() -> None:
    guard = FetchGuard(hosts=["example.com"], resolve=_resolve)
    guard.check("https://example.com/")
    guard.check("https://docs.example.com/")
    for url in (
        "https://example.org/",
        "https://notexample.com/",
        "https://example.com.evil.org/",
        "https://example.com:8443/",
        "http://example.com:22/",
    ):
        with pytest.raises(InputError):
            guard.check(url)


@given(st.integers(0, 2**32 - 1))
def test_every_private_ipv4_address_is_inside(number: int) -> None:
    address = ipaddress.IPv4Address(number)
    if address.is_private or address.is_multicast or address.is_link_local:
        allowed = ipaddress.ip_network("192.0.0.0/24")
        assert inside(address) or address in allowed
    mapped = ipaddress.IPv6Address(0xFFFF_0000_0000 | number)
    nat64 = ipaddress.IPv6Address((0x64FF9B << 96) | number)
    six_to_four = ipaddress.IPv6Address((0x2002 << 112) | (number << 80) | 1)
    assert inside(mapped)
    assert inside(nat64)
    assert inside(six_to_four)


@given(st.integers(0, 2**128 - 1))
def test_no_special_ipv6_address_is_outside(number: int) -> None:
    address = ipaddress.IPv6Address(number)
    if address.is_private or address.is_reserved or address.is_multicast:
        assert inside(address)


@given(st.text(max_size=60))
def test_no_text_breaks_the_guard(text: str) -> None:
    for url in (text, f"http://{text}/", f"https://example.com{text}"):
        try:
            target = GUARD.check(url)
        except InputError:
            continue
        assert target.address == PUBLIC or inside(ipaddress.ip_address(target.address)) is None


class _Site(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        answers: dict[str, tuple[int, dict[str, str], bytes]] = {
            "/": (200, {"Content-Type": "text/plain"}, b"hello"),
            "/host": (200, {"Content-Type": "text/plain"}, str(self.headers["Host"]).encode()),
            "/big": (200, {"Content-Type": "text/plain"}, b"x" * 300_000),
            "/gzip": (200, {"Content-Encoding": "gzip"}, b"\x1f\x8b"),
            "/image": (200, {"Content-Type": "image/png"}, b"\x89PNG"),
            "/inside": (302, {"Location": "http://127.0.0.1/"}, b""),
            "/metadata": (301, {"Location": "//169.254.169.254/latest"}, b""),
            "/scheme": (307, {"Location": "file:///etc/passwd"}, b""),
            "/user": (308, {"Location": "http://a:b@example.com/"}, b""),
            "/rebound": (302, {"Location": "http://rebound.example/"}, b""),
            "/loop": (302, {"Location": "/loop"}, b""),
            "/once": (302, {"Location": "/host"}, b""),
        }
        status, headers, body = answers.get(self.path, (404, {}, b"none"))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Net:
    """Names and connections of a small internet whose one server is on loopback."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.asked: list[str] = []
        self.dialled: list[tuple[str, int]] = []

    def resolve(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        again = self.asked.count(host) > 1
        return ["127.0.0.1"] if host == "rebound.example" and again else [PUBLIC]

    def connect(self, address: tuple[str, int], timeout_s: float) -> socket.socket:
        self.dialled.append(address)
        return socket.create_connection(("127.0.0.1", self.port), timeout_s)


@pytest.fixture
def net() -> Iterator[_Net]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Site)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield _Net(server.server_address[1])
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_page_comes_from_the_address_that_was_checked(net: _Net) -> None:
    page = FetchGuard(resolve=net.resolve, connect=net.connect).fetch("http://rebound.example/")
    assert (page.status, page.body) == (200, b"hello")
    assert net.dialled == [(PUBLIC, 80)]
    assert net.asked == ["rebound.example"]


def test_a_name_that_answers_differently_the_second_time_is_refused(net: _Net) -> None:
    guard = FetchGuard(resolve=net.resolve, connect=net.connect)
    guard.fetch("http://rebound.example/")
    with pytest.raises(InputError, match="loopback"):
        guard.fetch("http://rebound.example/")
    assert net.dialled == [(PUBLIC, 80)]


@pytest.mark.parametrize("path", ["inside", "metadata", "scheme", "user", "loop"])
def test_a_redirect_passes_the_same_gate(net: _Net, path: str) -> None:
    guard = FetchGuard(resolve=net.resolve, connect=net.connect)
    with pytest.raises(InputError):
        guard.fetch(f"http://example.com/{path}")
    assert set(net.dialled) == {(PUBLIC, 80)}


def test_a_redirect_to_a_rebound_name_is_refused(net: _Net) -> None:
    guard = FetchGuard(resolve=net.resolve, connect=net.connect)
    guard.fetch("http://example.com/rebound")
    with pytest.raises(InputError):
        guard.fetch("http://example.com/rebound")


def test_a_redirect_within_the_site_is_followed(net: _Net) -> None:
    page = FetchGuard(resolve=net.resolve, connect=net.connect).fetch("http://example.com/once")
    assert (page.url, page.body) == ("http://example.com/host", b"example.com")


def test_a_page_is_bounded_and_never_unpacked(net: _Net) -> None:
    guard = FetchGuard(resolve=net.resolve, connect=net.connect)
    assert len(guard.fetch("http://example.com/big", max_bytes=1_000).body) == 1_000
    with pytest.raises(InputError, match="compressed"):
        guard.fetch("http://example.com/gzip")


def test_a_server_that_does_not_answer_is_given_up(net: _Net) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        net.port = silent.getsockname()[1]
        guard = FetchGuard(resolve=net.resolve, connect=net.connect)
        with pytest.raises(InputError, match="did not answer"):
            guard.fetch("http://example.com/", timeout_s=0.3)


def test_the_tool_gives_untrusted_text_and_sends_out_public_text_alone(net: _Net) -> None:
    fetch = FetchGuard(resolve=net.resolve, connect=net.connect).tool()
    stated = declaration(fetch)
    assert (stated.trust, stated.side_effect, stated.sends) == ("untrusted", "external", "public")
    assert fetch.invoke({"url": "http://example.com/"}) == "[200]\nhello"
    assert "image/png, 4 bytes" in fetch.invoke({"url": "http://example.com/image"})
