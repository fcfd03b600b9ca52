"""What answers in the emulator: a brain, which is any function from a request to an answer.

A request looks the same to a brain whichever of the three APIs it came through, and the
emulator writes the answer in that API's own form.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Api = Literal["messages", "responses", "chat"]
Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call; `arguments` is JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """A message as a brain sees it; a tool's result is a message of its own, with its `call_id`.

    `text` joins the text blocks of the message with line breaks, `parts` holds them one by one.
    """

    role: Role
    text: str = ""
    calls: tuple[Call, ...] = ()
    call_id: str = ""
    parts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """A request that passed the vendor's checks. `raw` is its JSON body."""

    api: Api
    model: str
    system: str
    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...]
    max_tokens: int | None
    key: str
    raw: Mapping[str, Any] = field(repr=False)

    @property
    def turn(self) -> tuple[Message, ...]:
        """The messages since the model last spoke: a user's words or tools' results."""
        last = max((i for i, m in enumerate(self.messages) if m.role == "assistant"), default=-1)
        return self.messages[last + 1 :]

    @property
    def user_text(self) -> str:
        """What the user wrote last, "" if nothing."""
        return next((m.text for m in reversed(self.messages) if m.role == "user"), "")

    @property
    def results(self) -> tuple[str, ...]:
        """The texts of the tools' results since the model last spoke."""
        return tuple(message.text for message in self.turn if message.role == "tool")


FaultKind = Literal["status", "reset", "cut", "error", "drip", "delay", "untold"]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong on the way back, for tests.

    | kind | what the client sees |
    |---|---|
    | `status` | an error response with `status`, and `retry_after_s` if given |
    | `reset` | the connection reset, in a stream after `after` events |
    | `cut` | a stream that ends cleanly, but before its last event; else half a body |
    | `error` | an error event in mid-stream; without a stream, an error response |
    | `drip` | events (or an eighth of a body) `delay_s` apart |
    | `delay` | nothing for `delay_s`, then the answer |
    | `untold` | from Chat Completions, an answer that does not tell its usage |

    `after` counts events; None is half of them.
    """

    kind: FaultKind
    status: int = 529
    message: str = ""
    retry_after_s: float | None = None
    after: int | None = None
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a brain says: text, tool calls, or both.

    A call is its name and its arguments, as a dict or as JSON text (which may be cut short, as
    `stop="length"` does to it). Without `stop` the emulator says what fits. A refusal's text is
    what the vendor's refusal says.
    """

    text: str = ""
    calls: Sequence[tuple[str, Mapping[str, Any] | str]] = ()
    stop: Literal["length", "refusal"] | None = None
    reasoning: str = ""
    fault: Fault | None = None


Brain = Callable[[Request], Answer | Awaitable[Answer]]
"""Answers a request. A plain function must not block: the emulator has one thread."""


def echo(request: Request) -> Answer:
    """Answer with what was said last: the user's words or the tools' results."""
    return Answer("\n".join(message.text for message in request.turn))
