"""The way to a vendor: its SDK's clients, exact bytes out, parsed JSON in, one deadline.

The SDKs bring connections, authentication, server-sent events and status errors; their retries
are off and they build no body. Clients are made on first use (importing an SDK takes a second),
one for all threads and one for each event loop, and are closed with their owner or loop.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import cached_property
from importlib import import_module
from types import ModuleType
from typing import Any, Literal, NamedTuple

import httpx2

from agentmesh.errors import AgentmeshError, InputError
from agentmesh.providers.failures import failure, from_sdk
from agentmesh.providers.loopback import loopback_host

_UNTIL = "agentmesh.until"
_REQUEST_IDS = ("request-id", "x-request-id")


class Answer(NamedTuple):
    """A whole answer: its JSON, and the vendor's id of the request ("" for none)."""

    value: dict[str, Any]
    request_id: str


class Events(NamedTuple):
    """An answer as it comes in."""

    items: Iterator[dict[str, Any]]
    request_id: str


class AsyncEvents(NamedTuple):
    """An answer as it comes in, asynchronously."""

    items: AsyncIterator[dict[str, Any]]
    request_id: str


def encode(body: dict[str, Any]) -> bytes:
    """Return a request body's bytes: as it is ordered, without spaces, in UTF-8."""
    try:
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return text.encode()
    except (TypeError, ValueError) as error:
        raise InputError(
            f"a request that is not JSON: {error}", hint="look at the tools and extra fields"
        ) from None


class Connection:
    """One model's connection to its vendor through the SDK named `sdk`."""

    def __init__(
        self,
        sdk: Literal["anthropic", "openai"],
        *,
        model: str,
        api_key: str,
        base_url: str | None,
        headers: Callable[[Mapping[str, Any]], Mapping[str, str]],
    ) -> None:
        self._headers = headers
        self._secrets = (api_key, *headers({}).values())
        self._sdk_name = sdk
        self._model = model
        self._api_key = api_key
        self._base_url = base_url
        self._lock = threading.Lock()
        self._sync: Any = None
        self._asyncs: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = (
            weakref.WeakKeyDictionary()
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Connection:
        return self

    @cached_property
    def sdk(self) -> ModuleType:
        """The vendor's SDK."""
        return import_module(self._sdk_name)

    def post(self, path: str, body: dict[str, Any], timeout_s: float) -> Answer:
        """Send `body` and return the whole answer."""
        with self._translated():
            response = self._client().post(
                path, cast_to=httpx2.Response, **self._sent(body, timeout_s)
            )
            return self._answer(response)

    async def apost(self, path: str, body: dict[str, Any], timeout_s: float) -> Answer:
        """Send `body` and return the whole answer."""
        with self._translated():
            client = await self._async_client()
            async with asyncio.timeout(timeout_s):
                response = await client.post(
                    path, cast_to=httpx2.Response, **self._sent(body, timeout_s)
                )
            return self._answer(response)

    @contextmanager
    def stream(self, path: str, body: dict[str, Any], timeout_s: float) -> Iterator[Events]:
        """Send `body` and open the answer's events; leaving the context closes the response."""
        with self._translated():
            stream = self._client().post(
                path,
                cast_to=object,
                stream=True,
                stream_cls=self.sdk.Stream[object],
                **self._sent(body, timeout_s),
            )
            try:
                with self._translated(midway=True):
                    yield Events(iter(stream), _request_id(stream.response))
            finally:
                stream.close()

    @asynccontextmanager
    async def astream(
        self, path: str, body: dict[str, Any], timeout_s: float
    ) -> AsyncIterator[AsyncEvents]:
        """Send `body` and open the answer's events; leaving the context closes the response."""
        with self._translated():
            client = await self._async_client()
            async with asyncio.timeout(timeout_s):
                stream = await client.post(
                    path,
                    cast_to=object,
                    stream=True,
                    stream_cls=self.sdk.AsyncStream[object],
                    **self._sent(body, timeout_s),
                )
            try:
                with self._translated(midway=True):
                    yield AsyncEvents(aiter(stream), _request_id(stream.response))
            finally:
                await stream.close()

    def close(self) -> None:
        """Close the connections kept for other threads' calls; the next call opens new ones."""
        with self._lock:
            client, self._sync = self._sync, None
        if client is not None:
            client.close()

    @contextmanager
    def _translated(self, *, midway: bool = False) -> Iterator[None]:
        known = (self._sdk_error, httpx2.HTTPError, httpx2.StreamError, ValueError, TimeoutError)
        try:
            yield
        except AgentmeshError:
            raise
        except known as error:
            # Without a cause: the SDK's exceptions hold the request, and so the key.
            raise from_sdk(
                error, sdk=self.sdk, model=self._model, secrets=self._secrets, midway=midway
            ) from None

    @cached_property
    def _sdk_error(self) -> type[Exception]:
        error: type[Exception] = getattr(
            self.sdk, "AnthropicError" if self._sdk_name == "anthropic" else "OpenAIError"
        )
        return error

    def _client(self) -> Any:
        with self._lock:
            if self._sync is None:
                http = self.sdk.DefaultHttpxClient(
                    **self._http_options({"request": [_start_clock], "response": [_bound_response]})
                )
                sdk_class = self.sdk.Anthropic if self._anthropic else self.sdk.OpenAI
                self._sync = sdk_class(http_client=http, **self._options())
                weakref.finalize(self, http.close)
            return self._sync

    async def _async_client(self) -> Any:
        loop = asyncio.get_running_loop()
        client = self._asyncs.get(loop)
        if client is None:
            http = self.sdk.DefaultAsyncHttpxClient(
                **self._http_options({"request": [_astart_clock], "response": [_abound_response]})
            )
            sdk_class = self.sdk.AsyncAnthropic if self._anthropic else self.sdk.AsyncOpenAI
            client = sdk_class(http_client=http, **self._options())
            keeper = _close_with_loop(http.aclose)
            await anext(keeper)
            client.agentmesh_keeper = keeper
            self._asyncs[loop] = client
        return client

    @property
    def _anthropic(self) -> bool:
        return self._sdk_name == "anthropic"

    def _options(self) -> dict[str, Any]:
        return {"api_key": self._api_key, "base_url": self._base_url, "max_retries": 0}

    def _http_options(self, hooks: dict[str, list[Callable[..., Any]]]) -> dict[str, Any]:
        # A redirect would carry the key to wherever it points.
        options: dict[str, Any] = {"event_hooks": hooks, "follow_redirects": False}
        if host := loopback_host(self._base_url):
            host = f"[{host}]" if ":" in host else host
            options["mounts"] = {f"all://{host}": None}  # never through a proxy
        return options

    def _sent(self, body: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        headers = {**self._headers(body), "Content-Type": "application/json"}
        options = {"timeout": httpx2.Timeout(timeout_s), "headers": headers}
        return {"content": encode(body), "options": options}

    def _answer(self, response: httpx2.Response) -> Answer:
        value = response.json()
        if not isinstance(value, dict):
            raise failure("api", self._model, "sent an answer that is not a JSON object")
        return Answer(value, _request_id(response))


def _request_id(response: httpx2.Response) -> str:
    return next((response.headers[name] for name in _REQUEST_IDS if name in response.headers), "")


async def _close_with_loop(close: Callable[[], Any]) -> AsyncGenerator[None, None]:
    # A loop closes its open asynchronous generators when it ends, and this one the client.
    try:
        yield
    finally:
        await close()


def _start_clock(request: httpx2.Request) -> None:
    request.extensions[_UNTIL] = time.monotonic() + request.extensions["timeout"]["read"]


async def _astart_clock(request: httpx2.Request) -> None:
    _start_clock(request)


def _bound_response(response: httpx2.Response) -> None:
    network = response.extensions.get("network_stream")
    sock = network.get_extra_info("socket") if network is not None else None
    response.stream = _Bounded(response.stream, response.request, sock)


async def _abound_response(response: httpx2.Response) -> None:
    response.stream = _AsyncBounded(response.stream, response.request)


class _Bounded(httpx2.SyncByteStream):
    """A body that may not drip on, or stand still, beyond its request's deadline.

    A blocking read cannot be told to stop, so a timer hangs up the connection under it.
    """

    def __init__(self, inner: Any, request: httpx2.Request, sock: socket.socket | None) -> None:
        self._inner = inner
        self._request = request
        self._sock = sock

    def __iter__(self) -> Iterator[bytes]:
        left = self._request.extensions[_UNTIL] - time.monotonic()
        timer = threading.Timer(max(0.0, left), self._hang_up)
        timer.daemon = True
        timer.start()
        try:
            for part in self._inner:
                self._check()
                yield part
        except httpx2.TransportError:
            self._check()
            raise
        finally:
            timer.cancel()
        self._check()

    def _check(self) -> None:
        if time.monotonic() >= self._request.extensions[_UNTIL]:
            raise httpx2.ReadTimeout("the deadline has passed", request=self._request) from None

    def _hang_up(self) -> None:
        if self._sock is not None:
            with suppress(OSError):  # closed in the meantime
                # the plain socket's method: a TLS one would be torn down under its reader
                socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def close(self) -> None:
        self._inner.close()


class _AsyncBounded(httpx2.AsyncByteStream):
    """A body that may not drip on, or stand still, beyond its request's deadline."""

    def __init__(self, inner: Any, request: httpx2.Request) -> None:
        self._inner = inner
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        parts = aiter(self._inner)
        while True:
            left = self._request.extensions[_UNTIL] - time.monotonic()
            try:
                async with asyncio.timeout(left):
                    part = await anext(parts)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise httpx2.ReadTimeout("the deadline has passed", request=self._request) from None
            yield part

    async def aclose(self) -> None:
        await self._inner.aclose()
