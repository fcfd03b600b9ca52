"""The emulator as a server in a thread, on a port of its own."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Self

import uvicorn

from agentmesh.economy.billing import Clock
from agentmesh.economy.prices import PriceBook
from agentmesh.emulator.bill import Bill
from agentmesh.emulator.brain import Brain
from agentmesh.emulator.endpoint import application
from agentmesh.emulator.service import Service
from agentmesh.emulator.tuning import TuningFaults
from agentmesh.errors import ConfigError

_START_S = 10.0
_STOP_S = 5.0


class Emulator:
    """A running emulator: where it listens, and what it has charged.

    Use it as a context manager; `agentmesh.testing.emulator` makes one.
    """

    def __init__(
        self,
        brain: Brain | Mapping[str, Brain],
        *,
        clock: Clock = time.time,
        prices: PriceBook | None = None,
        keys: Iterable[str] | None = None,
        models: Iterable[str] | None = None,
        latency_s: float = 0.0,
        tuning_faults: TuningFaults | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._service = Service(
            brain,
            clock=clock,
            prices=prices,
            keys=None if keys is None else frozenset(keys),
            models=None if models is None else frozenset(models),
        )
        if latency_s < 0:
            raise ConfigError(f"latency_s is {latency_s!r}", hint="give seconds, zero or more")
        self._app = application(self._service, clock, latency_s, tuning_faults)
        self._host = host
        self._port = port
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._socket: socket.socket | None = None

    @property
    def url(self) -> str:
        """The base URL for Anthropic's SDK."""
        return f"http://{self._host}:{self._port}"

    @property
    def openai_url(self) -> str:
        """The base URL for OpenAI's SDK and for compatible clients."""
        return f"{self.url}/v1"

    @property
    def bills(self) -> list[Bill]:
        """The bills so far, in the order in which the responses began."""
        return self._service.bills

    @property
    def errors(self) -> list[Exception]:
        """What brains raised; the clients saw status 500."""
        return self._service.errors

    def reset(self) -> None:
        """Forget bills and caches."""
        self._service.reset()

    def start(self) -> None:
        """Listen, and return once requests are answered."""
        if self._thread is not None:
            raise ConfigError("the emulator runs already", hint="make another one")
        sock = _listen(self._host, self._port)
        self._socket = sock
        self._port = sock.getsockname()[1]
        config = uvicorn.Config(
            self._app,
            log_config=None,
            access_log=False,
            lifespan="off",
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=1,
            ws="none",
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([sock],), name="agentmesh-emulator", daemon=True
        )
        self._thread.start()
        deadline = time.monotonic() + _START_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise ConfigError(
                    f"the emulator did not start on {self.url}", hint="try another port"
                )
            time.sleep(0.002)

    def stop(self) -> None:
        """Stop listening, and return once the thread has ended."""
        if self._server is not None:
            self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(_STOP_S)
        if self._socket is not None:
            self._socket.close()
        self._server = self._thread = self._socket = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's delay off only where the socket says that it is TCP
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except (OSError, OverflowError) as error:
        sock.close()
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(
            f"cannot listen on {host}:{port}: {reason}",
            hint="choose another port, or 0 for any free one",
        ) from error
    sock.listen(128)
    return sock
