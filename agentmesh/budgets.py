"""Budgets: what may be spent per turn, session, user and day, checked before every call.

What is guaranteed. A call is admitted only while what the ledger holds, what the calls in flight
are expected to cost, and what this call is expected to cost stay within every limit together.
Within one process that is decided one call at a time, and a call's row is stored before its
reservation ends, so concurrent turns cannot slip past a limit side by side: a limit is exceeded
by no more than the calls in flight cost above what was expected of them, which is the length of
their answers. Other processes' calls count once they are stored: with several processes, a limit
can also be exceeded by what the others have in flight at that moment.

A call whose cost nobody told (a stream that was cut, a timeout) counts as what was expected of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

from sqlalchemy import ColumnElement, Connection, func, select

from agentmesh import canonical
from agentmesh.economy.usage import Usage
from agentmesh.errors import BudgetError, ConfigError
from agentmesh.memory.tables import calls, sessions

if TYPE_CHECKING:
    from agentmesh.economy.prices import PriceBook
    from agentmesh.memory import Memory
    from agentmesh.tiers import Tier

Scope = Literal["turn", "session", "user", "day"]
SCOPES: tuple[Scope, ...] = ("turn", "session", "user", "day")


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent, in dollars; the call that would exceed it is not made.

    >>> Budget(turn_usd=0.05, day_usd=20.00).limits
    {'turn': 50000, 'day': 20000000}

    Args:
        turn_usd: on one turn, its refused drafts and side calls included.
        session_usd: on one session.
        user_usd: by this agent on one user, over all that the ledger holds.
        day_usd: by this agent on everybody, since midnight UTC.
        on_exceed: `stop` with a `BudgetError`, or let a `cheaper` tier draft the step if one fits.
    """

    turn_usd: float | None = None
    session_usd: float | None = None
    user_usd: float | None = None
    day_usd: float | None = None
    on_exceed: Literal["stop", "cheaper"] = "stop"

    def __post_init__(self) -> None:
        for scope in SCOPES:
            value = getattr(self, f"{scope}_usd")
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (number and 0 < value < float("inf")):
                raise ConfigError(
                    f"{scope}_usd={value!r} is no budget", hint="dollars above zero, or None"
                )
        if self.on_exceed not in ("stop", "cheaper"):
            raise ConfigError(f"on_exceed={self.on_exceed!r}", hint="'stop' or 'cheaper'")

    @property
    def limits(self) -> dict[Scope, int]:
        """The limits that are set, in micro-dollars."""
        given = {scope: getattr(self, f"{scope}_usd") for scope in SCOPES}
        return {scope: round(usd * 1e6) for scope, usd in given.items() if usd is not None}


class Spender(NamedTuple):
    """On whose account a call is made."""

    user: str
    session: str
    turn: int


class Account:
    """The reservation of one attempt: held before each of its requests, freed after its row."""

    def __init__(self, budgets: Budgets, who: Spender) -> None:
        self._budgets = budgets
        self._who = who
        self._held = False

    def hold(self, tier: Tier, planned: Usage) -> None:
        """Reserve what a request is expected to cost, unless it is reserved already.

        Raises:
            BudgetError: with it a limit would be exceeded.
        """
        if not self._held:
            self._budgets.reserve(self, self._who, tier, planned)
            self._held = True

    def free(self) -> None:
        """End the reservation: the request's row is stored, or there was none."""
        self._budgets.release(self)
        self._held = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.free()


class Budgets:
    """Admits an agent's calls, one at a time, and knows what those in flight may cost."""

    def __init__(self, budget: Budget, agent: str, memory: Memory, prices: PriceBook) -> None:
        self._limits = budget.limits
        self.cheaper = budget.on_exceed == "cheaper"
        self._agent = agent
        self._memory = memory
        self._prices = prices
        self._lock = Lock()
        self._held: dict[Account, tuple[Spender, int]] = {}

    def __bool__(self) -> bool:
        return bool(self._limits)

    def account(self, who: Spender) -> Account:
        """Return what reserves for one attempt; its context ends the reservation."""
        return Account(self, who)

    def reserve(self, account: Account, who: Spender, tier: Tier, planned: Usage) -> None:
        """Hold what a call is expected to cost, or raise the `BudgetError` that stops it."""
        if not self._limits:
            return
        cost = self._prices.cost(tier.model_name, planned) or 0
        with self._lock:
            spent = self._memory.database.read(lambda c: self._spent(c, who))
            for scope, limit in self._limits.items():
                held = sum(
                    micro for other, micro in self._held.values() if _same(scope, who, other)
                )
                if spent[scope] + held + cost > limit:
                    raise _exceeded(scope, spent[scope], held, cost, limit, tier.name)
            self._held[account] = who, cost

    def release(self, account: Account) -> None:
        """End a reservation, if there is one."""
        if self._limits:
            with self._lock:
                self._held.pop(account, None)

    def _spent(self, connection: Connection, who: Spender) -> dict[Scope, int]:
        """Return what the ledger holds for each scope with a limit, summed by the database."""
        found: dict[Scope, int] = {}
        for scope in self._limits:
            known, untold = connection.execute(
                select(
                    func.coalesce(func.sum(calls.c.cost), 0),
                    func.count() - func.count(calls.c.cost),
                )
                .select_from(calls.join(sessions, sessions.c.id == calls.c.session_id))
                .where(*self._of(scope, who))
            ).one()
            found[scope] = int(known) + (self._untold(connection, scope, who) if untold else 0)
        return found

    def _untold(self, connection: Connection, scope: Scope, who: Spender) -> int:
        """Return what was expected of the calls whose cost nobody told: few rows, if any."""
        rows = connection.execute(
            select(calls.c.model, calls.c.planned)
            .select_from(calls.join(sessions, sessions.c.id == calls.c.session_id))
            .where(calls.c.cost.is_(None), *self._of(scope, who))
        )
        usages = ((row.model, Usage(**canonical.loads(row.planned))) for row in rows)
        return sum(self._prices.cost(model, usage) or 0 for model, usage in usages)

    def _of(self, scope: Scope, who: Spender) -> Sequence[ColumnElement[bool]]:
        tenant = sessions.c.tenant == self._memory.tenant
        if scope == "day":
            today = datetime.fromtimestamp(self._memory.clock(), UTC).replace(
                hour=0, minute=0, second=0, microsecond=0
            )
            since = calls.c.started_at >= today.timestamp()
            return tenant, calls.c.agent == self._agent, since
        if scope == "user":
            return tenant, sessions.c.user == who.user, calls.c.agent == self._agent
        session = tenant, sessions.c.name == who.session
        return session if scope == "session" else (*session, calls.c.turn == who.turn)


def check_prices(budget: Budget, tiers: Sequence[Tier], prices: PriceBook) -> None:
    """Refuse a budget beside a tier whose calls it could not count."""
    for tier in tiers:
        if budget.limits and prices.price(tier.model_name) is None:
            raise ConfigError(
                f"a budget cannot count tier {tier.name!r}: the price of"
                f" {tier.model_name!r} is unknown",
                hint="give the tier a price=Price(input, output)",
            )


def _same(scope: Scope, one: Spender, two: Spender) -> bool:
    """Say whether two calls count against the same limit."""
    if scope == "day":
        return True
    if scope == "user":
        return one.user == two.user
    return one.session == two.session and (scope == "session" or one.turn == two.turn)


def _exceeded(scope: Scope, spent: int, held: int, cost: int, limit: int, tier: str) -> BudgetError:
    flying = f", ${held / 1e6:.4f} is in flight" if held else ""
    what = {"user": "the user", "day": "this day"}.get(scope, f"the {scope}")
    return BudgetError(
        f"{what} has spent ${spent / 1e6:.4f}{flying}; a call of tier {tier!r} would"
        f" add about ${cost / 1e6:.4f} and exceed ${limit / 1e6:.4f}",
        hint=f"raise Budget({scope}_usd=...)",
    )
