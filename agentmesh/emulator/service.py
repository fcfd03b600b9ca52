"""The emulated vendor behind the HTTP: checks a request, asks the brain, keeps the bill."""

from __future__ import annotations

import hashlib
import inspect
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from agentmesh.economy.billing import CacheSpace, Clock, Lookup, PrefixCache
from agentmesh.economy.prices import PriceBook
from agentmesh.economy.tokens import count
from agentmesh.economy.usage import Usage
from agentmesh.emulator.bill import Bill
from agentmesh.emulator.brain import Answer, Brain, Call, Fault, Request
from agentmesh.emulator.diagnostics import Diagnoses
from agentmesh.emulator.refusal import Refusal
from agentmesh.emulator.wire import (
    Dialect,
    Parsed,
    Reply,
    compact,
    cut_to,
    output_tokens,
)
from agentmesh.errors import ConfigError


class Prepared(NamedTuple):
    """A reply that is ready to be written, and what becomes true when its first byte is sent."""

    dialect: Dialect
    parsed: Parsed
    reply: Reply
    lookup: Lookup
    cache: PrefixCache
    fault: Fault | None
    at: float


class Service:
    """One emulated vendor: its caches, its bills and the brain that answers.

    Args:
        brain: answers every request, or one brain for each model name.
        clock: the time that caches, bills and responses go by.
        prices: what is charged; the list prices if None.
        keys: the API keys that are valid; any that is not blank if None.
        models: the model names that exist; all if None.
    """

    def __init__(
        self,
        brain: Brain | Mapping[str, Brain],
        *,
        clock: Clock,
        prices: PriceBook | None = None,
        keys: frozenset[str] | None = None,
        models: frozenset[str] | None = None,
    ) -> None:
        brains = brain if isinstance(brain, Mapping) else {"": brain}
        for model, one in brains.items():
            if not callable(one):
                raise ConfigError(
                    f"brain {one!r} of model {model!r} is not a function",
                    hint="give a function from a Request to an Answer, such as `echo`",
                )
        self._brains = dict(brains)
        self._one = not isinstance(brain, Mapping)
        self._clock = clock
        self._prices = prices or PriceBook()
        self._keys = keys
        self._models = models
        self._caches = CacheSpace(clock)
        self._seen: Counter[bytes] = Counter()
        self._diagnoses = Diagnoses()
        self._lock = threading.Lock()
        self.tuned: dict[str, Brain] = {}
        self.bills: list[Bill] = []
        self.errors: list[Exception] = []

    def reset(self) -> None:
        """Forget bills and caches, as if the emulator had just started."""
        with self._lock:
            self.bills.clear()
            self.errors.clear()
            self._caches.clear()
            self._seen.clear()
            self._diagnoses.clear()

    def model_names(self) -> list[str]:
        """Return the names of the models that are known to exist."""
        known = self._models if self._models is not None else frozenset(self._brains)
        return sorted(name for name in known if name)

    def admit(self, key: str, dialect: Dialect) -> None:
        """Raise the refusal of a missing or wrong API key."""
        anthropic = dialect.api == "messages"
        if not key:
            message = (
                "x-api-key header is required"
                if anthropic
                else (
                    "You didn't provide an API key. You need to provide your API key in an "
                    "Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY)."
                )
            )
            raise Refusal(message, status=401)
        if self._keys is not None and key not in self._keys:
            message = "invalid x-api-key" if anthropic else "Incorrect API key provided."
            raise Refusal(message, status=401, code=None if anthropic else "invalid_api_key")

    def read(
        self, dialect: Dialect, raw: Any, key: str, betas: frozenset[str] = frozenset()
    ) -> Parsed:
        """Return the parsed request, or raise the refusal that the vendor would answer with."""
        if not isinstance(raw, dict):
            raise Refusal("The request body must be a JSON object.")
        parsed = dialect.parse(raw, key, betas)
        name = parsed.request.model
        if self._models is not None and name not in self._models:
            if dialect.api == "messages":
                raise Refusal(f"model: {name}", status=404)
            raise Refusal(
                f"The model `{name}` does not exist or you do not have access to it.",
                status=404,
                code="model_not_found",
            )
        window = self._prices.window(parsed.name)
        tokens = sum(block.tokens for block in parsed.blocks)
        if window is not None and tokens > window:
            raise dialect.overflow(tokens, window)
        return parsed

    async def prepare(self, dialect: Dialect, parsed: Parsed, at: float) -> Prepared:
        """Look up the cache, ask the brain, and return the reply that will be written."""
        request = parsed.request
        cache = self._caches.cache(request.key, parsed.name)
        lookup = cache.look_up(parsed.blocks, implicit=parsed.implicit, at=at)
        answer = Answer() if parsed.silent else await self._ask(request)
        if answer.fault is not None and answer.fault.kind == "status":
            raise _status(answer.fault, dialect)
        answer = cut_to(answer, None if parsed.silent else request.max_tokens)
        seed = self._seed(dialect, parsed)
        calls = tuple(
            Call(f"{dialect.call_prefix}{_name(seed, index + 1)}", name, _arguments(arguments))
            for index, (name, arguments) in enumerate(answer.calls)
        )
        output = output_tokens(answer.text, calls, answer.reasoning)
        usage = replace(lookup.usage, output=output, reasoning=count(answer.reasoning))
        id_ = f"{dialect.id_prefix}{_name(seed, 0)}"
        reply = Reply(
            id=id_,
            model=request.model,
            at=at,
            text=answer.text,
            calls=calls,
            reasoning=answer.reasoning,
            stop="length"
            if parsed.silent and dialect.api == "messages"
            else answer.stop or ("tools" if calls else "end"),
            usage=usage,
            request=request,
            with_usage=parsed.with_usage,
            extra=self._diagnoses.fields(id_, parsed, usage),
            untold=answer.fault is not None and answer.fault.kind == "untold",
        )
        return Prepared(dialect, parsed, reply, lookup, cache, answer.fault, at)

    async def _ask(self, request: Request) -> Answer:
        brain = self.tuned.get(request.model)
        brain = brain or self._brains.get("" if self._one else request.model)
        if brain is None:
            raise Refusal(
                f"no brain answers for model {request.model!r}: there are {sorted(self._brains)}",
                status=404,
                code="model_not_found",
            )
        try:
            answer = brain(request)
            if inspect.isawaitable(answer):
                answer = await answer
        except Refusal:
            raise
        except Exception as error:
            # whatever a brain raises is the emulated vendor's internal error; tests see it here
            self.errors.append(error)
            raise Refusal(f"brain failed: {error!r}", status=500) from error
        if not isinstance(answer, Answer):
            raise Refusal(f"brain returned {answer!r}, not an Answer", status=500)
        return answer

    def _seed(self, dialect: Dialect, parsed: Parsed) -> bytes:
        """Return what the ids of a response grow from.

        It depends on the request, not on the order in which requests arrive, so that a run with
        parallel sessions can be repeated; a repeated request gets new ids all the same.
        """
        state = hashlib.blake2b(f"{dialect.api} {parsed.name} ".encode(), digest_size=16)
        for block in parsed.blocks:
            state.update(block.sha)
        base = state.digest()
        with self._lock:
            number = self._seen[base]
            self._seen[base] += 1
        state.update(number.to_bytes(8, "big"))
        return state.digest()

    def begin(self, prepared: Prepared) -> None:
        """Make the reply's cache entries readable: its first byte goes out now."""
        prepared.cache.begin(prepared.lookup)

    def charge(self, prepared: Prepared, output: int | None = None) -> None:
        """Write the bill of a reply; `output` is what was sent of it, if not all."""
        usage = prepared.reply.usage
        if output is not None:
            usage = replace(usage, output=output, reasoning=min(usage.reasoning, output))
        fault = prepared.fault.kind if prepared.fault else ""
        dialect, parsed = prepared.dialect, prepared.parsed
        cost = self._prices.cost(parsed.name, usage, prepared.at)
        bill = Bill(
            prepared.reply.id,
            dialect.api,
            parsed.name,
            parsed.request.key,
            usage,
            cost,
            prepared.at,
            200,
            parsed.stream,
            fault,
        )
        with self._lock:
            self.bills.append(bill)

    def refuse(
        self, dialect: Dialect, raw: Any, key: str, refusal: Refusal, id_: str, at: float
    ) -> None:
        """Write the bill of a request that was refused: it costs nothing."""
        name = raw.get("model", "") if isinstance(raw, dict) else ""
        vendor = {"messages": "anthropic", "responses": "openai", "chat": "openai-compatible"}
        stream = bool(raw.get("stream")) if isinstance(raw, dict) else False
        fault = "status" if refusal.status >= 429 else ""
        bill = Bill(
            id_,
            dialect.api,
            f"{vendor[dialect.api]}:{name}",
            key,
            Usage(),
            0,
            at,
            refusal.status,
            stream,
            fault,
        )
        with self._lock:
            self.bills.append(bill)


def _status(fault: Fault, dialect: Dialect) -> Refusal:
    message = fault.message or ("Overloaded" if fault.status == 529 else "An error was injected.")
    return Refusal(message, status=fault.status, retry_after_s=fault.retry_after_s)


def _name(seed: bytes, index: int) -> str:
    """Return the random-looking part of an id."""
    return hashlib.blake2b(seed, digest_size=12, salt=index.to_bytes(8, "big")).hexdigest()


def _arguments(arguments: Mapping[str, Any] | str) -> str:
    return arguments if isinstance(arguments, str) else compact(dict(arguments))
