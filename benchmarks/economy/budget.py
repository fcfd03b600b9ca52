"""What a budget check costs on a long ledger, over what it costs on a short one."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from agentmesh.budgets import Budget, Budgets, Spender
from agentmesh.economy.prices import PriceBook
from agentmesh.economy.usage import Usage
from agentmesh.memory import Memory
from agentmesh.memory.ledger import Call, store
from agentmesh.tiers import Tier

MODEL = "anthropic:claude-opus-5-5"
USERS = 100


def checks(rows: int = 100_000, few: int = 100) -> dict[str, Any]:
    """Return the CPU time of a check of all four limits, with few and with many calls today.

    Half of the calls are one user's, who is the one that asks; one new call lies between two
    checks.
    """
    short, long = _measure(few), _measure(rows)
    return {
        "rows": rows,
        "few_rows": few,
        "few_ms": round(short["check_ms"], 3),
        "check_ms": round(long["check_ms"], 3),
        "first_check_ms": round(long["first_ms"], 3),
        "ratio": round(long["check_ms"] / short["check_ms"], 2),
    }


def _measure(rows: int, times: int = 200) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        memory = Memory(f"sqlite:///{Path(folder) / 'ledger.db'}")
        numbers = [_session(memory, f"s{n}", f"u{n}") for n in range(USERS)]
        now = memory.clock()
        for start in range(0, rows, 5_000):
            for user, number in enumerate(numbers):
                size = min(5_000, rows - start)
                share = size // 2 if user == 0 else size // 2 // (USERS - 1) or 1
                made = [_call(f"u{user}", now, turn) for turn in range(share)]
                _store(memory, number, made)
        budget = Budget(turn_usd=1e3, session_usd=1e3, user_usd=1e3, day_usd=1e3)
        budgets = Budgets(budget, "desk", memory, PriceBook())
        who, tier, seconds = Spender("u0", numbers[0], 10**6), Tier("only", MODEL), []
        for _ in range(times):
            began = time.process_time()
            with budgets.account(who) as account:
                account.hold(tier, Usage(1_000, 0, 0, 0, 100, 0))
            seconds.append(time.process_time() - began)
            _store(memory, numbers[1], [_call("u1", now, 1)])
        memory.close()
    return {"first_ms": seconds[0] * 1e3, "check_ms": statistics.median(seconds) * 1e3}


def _store(memory: Memory, number: int, rows: list[Call]) -> None:
    memory.database.write(lambda c: store(c, memory.tenant, number, rows))


def _session(memory: Memory, name: str, user: str) -> int:
    blocks = [{"type": "text", "text": "hello"}]
    turn = memory.open_turn(session=name, user=user, agent="desk", blocks=blocks)
    turn.finish()
    return turn.view.id


def _call(user: str, at: float, turn: int) -> Call:
    return Call(
        user=user,
        agent="desk",
        epoch=1,
        turn=turn,
        step=1,
        tier="only",
        model=MODEL,
        head=1,
        usage=Usage(10, 1_000, 0, 0, 5, 0),
        cost=10,
        outcome="ok",
        started_at=at,
        latency_s=1.0,
    )
