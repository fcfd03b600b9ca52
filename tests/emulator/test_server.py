"""The emulator as a server: its life, its brains, its bills, its clock."""

import asyncio
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

import agentmesh.emulator
import agentmesh.testing
from agentmesh.economy import Price, PriceBook
from agentmesh.errors import ConfigError
from agentmesh.testing import Answer, echo, emulator

RULES = [{"type": "text", "text": "x" * 8_000, "cache_control": {"type": "ephemeral"}}]
BODY = {
    "model": "claude-opus-5-5",
    "max_tokens": 50,
    "system": RULES,
    "messages": [{"role": "user", "content": "Hi"}],
}


def post(server, key="k", **changes):
    headers = {"x-api-key": key}
    return httpx.post(f"{server.url}/v1/messages", json={**BODY, **changes}, headers=headers)


def test_starts_on_a_port_of_its_own_and_stops(start):
    before = threading.active_count()
    with emulator(echo) as one, emulator(echo) as two:
        assert one.url != two.url
        assert one.openai_url == f"{one.url}/v1"
        assert post(one).json()["content"][0]["text"] == "Hi"
    assert threading.active_count() == before
    with pytest.raises(httpx.ConnectError):
        post(one)


def test_stops_while_a_client_keeps_its_connection():
    server = emulator(echo)
    with httpx.Client() as client:
        with server:
            assert client.get(f"{server.url}/v1/models").status_code == 200
            server.stop()
            server.stop()  # as often as one likes
        with pytest.raises(httpx.ConnectError):
            client.get(f"{server.url}/v1/models")


def test_can_be_started_again():
    server = emulator(echo)
    for _ in range(2):
        with server:
            assert post(server).status_code == 200
            with pytest.raises(ConfigError, match="runs already"):
                server.start()


def test_a_taken_port_is_one_clear_error():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}") as caught:
            emulator(echo, port=port).start()
    assert caught.value.hint


@pytest.mark.parametrize("brain", [None, 5, {"m": "echo"}])
def test_a_brain_that_is_no_function_is_refused(brain):
    with pytest.raises(ConfigError, match="is not a function"):
        emulator(brain)


def test_a_brain_for_each_model(start):
    server = start({"a": lambda r: Answer("A"), "b": lambda r: Answer("B")})
    assert [post(server, model=m).json()["content"][0]["text"] for m in "ab"] == ["A", "B"]
    assert post(server, model="c").status_code == 404
    names = [row["id"] for row in httpx.get(f"{server.url}/v1/models").json()["data"]]
    assert names == ["a", "b"]


def test_a_brain_may_be_a_coroutine(start):
    async def brain(request):
        await asyncio.sleep(0)
        return Answer("later")

    assert post(start(brain)).json()["content"][0]["text"] == "later"


def test_what_a_brain_raises_is_status_500_and_kept(start):
    server = start(lambda request: 1 / 0)
    answer = post(server)
    assert answer.status_code == 500
    assert "ZeroDivisionError" in answer.json()["error"]["message"]
    assert isinstance(server.errors[0], ZeroDivisionError)
    assert post(start(lambda request: "text")).status_code == 500


def test_unknown_paths_and_methods_are_refused(start):
    server = start()
    assert httpx.post(f"{server.url}/v1/embeddings").status_code == 404
    assert httpx.get(f"{server.url}/v1/messages").status_code == 405


def test_bills_and_reset_over_http(start):
    server = start()
    post(server, key="a-long-secret-key")
    (bill,) = httpx.get(f"{server.url}/emulator/bills").json()
    assert bill["usage"]["write"] == 2_000
    assert bill["cost_micro"] == 2_000 * 5 + 1 * 4 + 1 * 20
    assert bill["key"] == "a-long-s"
    httpx.post(f"{server.url}/emulator/reset")
    assert server.bills == []
    post(server)
    assert server.bills[0].usage.read == 0
    server.reset()
    assert server.bills == []


def test_prices_can_be_given(start):
    book = PriceBook({"anthropic:claude-opus-5-5": Price(100, 100)})
    server = start(prices=book)
    post(server)
    assert server.bills[0].cost_micro == 2_000 * 125 + 100 + 100


def test_caches_expire_by_the_given_clock(start, clock):
    server = start(clock=clock)
    reads = []
    for wait_s in (0, 299, 299, 300):
        clock.now += wait_s
        post(server)
        reads.append(server.bills[-1].usage.read)
    assert reads == [0, 2_000, 2_000, 0]
    assert server.bills[-1].at == clock.now


def test_keys_have_caches_of_their_own(start):
    server = start()
    for key in ("one", "two", "one"):
        post(server, key=key)
    assert [bill.usage.read for bill in server.bills] == [0, 0, 2_000]


def test_parallel_requests_all_write_until_one_has_begun(start):
    arrived = []

    async def brain(request):
        arrived.append(request)
        while len(arrived) < 4:  # no answer before all four have been looked up
            await asyncio.sleep(0.005)
        return Answer("ok")

    server = start(brain)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: post(server), range(4)))
    assert [bill.usage.write for bill in server.bills] == [2_000] * 4
    post(server)
    assert server.bills[-1].usage.read == 2_000


def test_latency_keeps_every_answer_waiting(start):
    server = start(latency_s=0.2)
    began = time.monotonic()
    post(server)
    assert time.monotonic() - began >= 0.2


def test_no_bill_is_lost_under_load(start):
    server = start()
    with httpx.Client() as client, ThreadPoolExecutor(8) as pool:
        url, headers = f"{server.url}/v1/messages", {"x-api-key": "k"}
        statuses = list(
            pool.map(lambda _: client.post(url, json=BODY, headers=headers).status_code, range(120))
        )
    assert statuses == [200] * 120
    assert len({bill.id for bill in server.bills}) == 120


def test_a_negative_latency_is_refused():
    with pytest.raises(ConfigError, match="latency_s"):
        emulator(echo, latency_s=-1)


@pytest.mark.parametrize("package", [agentmesh.emulator, agentmesh.testing])
def test_exports_are_what_is_promised(package):
    assert package.__all__ == sorted(package.__all__, key=lambda name: (name.islower(), name))
    for name in package.__all__:
        assert getattr(package, name)
    assert not hasattr(package, "nothing")
