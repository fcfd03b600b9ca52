"""Import: conversations that happened elsewhere become sessions, all of them or none."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from agentmesh import canonical
from agentmesh.errors import ConfigError, InputError
from agentmesh.memory import sessions
from agentmesh.memory.sessions import View
from agentmesh.memory.turns import CUT_SHORT, Turn

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver

    from agentmesh.memory.memory import Memory

AGENT = "imported"

_NAMES = ("session", "conversation_id", "thread_id", "id")


@dataclass(frozen=True, slots=True)
class Chat:
    """One conversation to import: OpenAI-style messages, whose it is and what to call it."""

    session: str
    user: str
    messages: Sequence[Mapping[str, Any]]


def read_chats(path: str | Path, *, user: str = "") -> list[Chat]:
    """Read a JSONL file of OpenAI-style chats, one conversation a line.

    A line is `{"messages": [...]}`; it may name its `user` and its session (as `session`,
    `conversation_id`, `thread_id` or `id`), else the file and line do.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{str(path)!r} cannot be read: {error}", hint="give a JSONL file") from (
            error
        )
    return [
        _chat(f"{path.name} line {number}", line, f"{path.stem}-{number}", user)
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]


def read_checkpoints(
    saver: BaseCheckpointSaver[Any],
    *,
    user: str | Callable[[str], str],
    threads: Iterable[str] | None = None,
) -> list[Chat]:
    """Read the messages of LangGraph threads from their newest checkpoints."""
    from langchain_core.messages import convert_to_openai_messages

    if threads is None:
        found = (one.config["configurable"]["thread_id"] for one in saver.list(None))
        threads = sorted(set(found))
    chats = []
    for thread in threads:
        state = saver.get_tuple({"configurable": {"thread_id": thread}})
        if state is None:
            raise InputError(f"there is no thread {thread!r}", hint="see saver.list(None)")
        messages = state.checkpoint["channel_values"].get("messages", [])
        plain = convert_to_openai_messages(messages)
        whose = user if isinstance(user, str) else user(thread)
        chats.append(Chat(thread, whose, [plain] if isinstance(plain, dict) else plain))
    return chats


def store_chats(memory: Memory, chats: Sequence[Chat]) -> list[str]:
    """Store chats as sessions of their own, in one transaction; returns their names."""
    turned = [(chat, list(_turns(chat))) for chat in chats]

    def work(connection: Connection) -> None:
        for chat, turns in turned:
            _store(connection, memory, chat, turns)

    memory.database.write(work)
    return [chat.session for chat in chats]


def _chat(where: str, line: str, name: str, user: str) -> Chat:
    hint = '{"messages": [{"role": "user", "content": "..."}, ...]}'
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where} is not JSON: {error}", hint=hint) from error
    if not isinstance(row, dict) or not isinstance(row.get("messages"), list):
        raise InputError(f"{where} has no messages", hint=hint)
    session = next((str(row[key]) for key in _NAMES if row.get(key)), name)
    whose = str(row.get("user") or user)
    if not whose:
        raise InputError(f"{where} does not say whose chat it is", hint="give user=")
    return Chat(session, whose, row["messages"])


_Said = tuple[str, list[dict[str, Any]]]  # kind and blocks of an entry


def _turns(chat: Chat) -> Iterator[list[_Said]]:
    """Yield a chat's turns: each begins with the user's message and leaves no call open."""
    turn: list[_Said] = []
    open_calls: dict[str, str] = {}
    for number, message in enumerate(chat.messages, 1):
        where = f"message {number} of session {chat.session!r}"
        kind, blocks = _entry(where, message, open_calls)
        if kind == "user" and any(said in ("assistant", "tool") for said, _ in turn):
            yield turn + _closed(open_calls)
            turn = []
        turn.append((kind, blocks))
        for block in blocks:
            if block["type"] == "call":
                open_calls[block["id"]] = block["name"]
            elif block["type"] == "result":
                del open_calls[block["id"]]
    if turn:
        yield turn + _closed(open_calls)


def _closed(open_calls: dict[str, str]) -> list[_Said]:
    results = [_result(id_, name, CUT_SHORT, error=True) for id_, name in open_calls.items()]
    open_calls.clear()
    return [("tool", [result]) for result in results]


def _entry(where: str, message: Any, open_calls: Mapping[str, str]) -> _Said:
    if not isinstance(message, Mapping):
        raise InputError(f"{where} is not a message", hint='{"role": ..., "content": ...}')
    role, text = message.get("role"), _text(where, message.get("content"))
    if role in ("user", "system", "developer"):
        # Instructions belong to the agent: they stay on record, and no model is shown them.
        return "user" if role == "user" else "system", [{"type": "text", "text": text}]
    if role == "assistant":
        said = [{"type": "text", "text": text}] if text else []
        return "assistant", said + [_call(where, one) for one in message.get("tool_calls") or []]
    if role == "tool":
        call_id = str(message.get("tool_call_id"))
        if call_id not in open_calls:
            raise InputError(f"{where} answers no call", hint="its call must come before it")
        return "tool", [_result(call_id, open_calls[call_id], text, error=False)]
    raise InputError(
        f"{where} has the role {role!r}", hint="user, assistant, tool, system or developer"
    )


def _text(where: str, content: Any) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part if isinstance(part, dict) else {} for part in content]
        if all(isinstance(part.get("text"), str) for part in parts):
            return "\n".join(part["text"] for part in parts)
    raise InputError(f"{where} is not text alone", hint="leave images and files out")


def _call(where: str, call: Any) -> dict[str, Any]:
    try:
        function = call["function"]
        arguments = function["arguments"]
        return {
            "type": "call",
            "id": str(call["id"]),
            "name": str(function["name"]),
            "arguments": arguments if isinstance(arguments, str) else canonical.dumps(arguments),
        }
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{where} has a broken tool call",
            hint='{"id": ..., "function": {"name": ..., "arguments": "..."}}',
        ) from error


def _result(call_id: str, name: str, text: str, *, error: bool) -> dict[str, Any]:
    return {"type": "result", "id": call_id, "name": name, "text": text, "error": error}


def _store(
    connection: Connection, memory: Memory, chat: Chat, turns: Sequence[Sequence[_Said]]
) -> None:
    memory.history(chat.session)  # refuses what is not a name
    memory.profile(chat.user)
    if sessions.find(connection, memory.tenant, chat.session) is not None:
        raise InputError(
            f"session {chat.session!r} exists", hint="erase it first, or rename the import"
        )
    sessions.create(
        connection,
        tenant=memory.tenant,
        name=chat.session,
        user=chat.user,
        agent=AGENT,
        now=memory.clock(),
    )
    row = memory.find(connection, chat.session)
    turn = Turn(
        memory,
        View(row.id),
        session=chat.session,
        user=chat.user,
        agent=AGENT,
        organisation="",
        number=len(turns),
        fence=row.fence,
    )
    for number, said in enumerate(turns, 1):
        for kind, blocks in said:
            turn.add(kind, blocks, turn=number)
        turn.add("end", [], turn=number, status="imported")
    turn.store(connection, changes={"turn": len(turns), "state": "idle", "lease_until": 0.0})
