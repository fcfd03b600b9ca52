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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

from sqlalchemy import Connection

from agentmesh.errors import BudgetError, ConfigError
from agentmesh.spending import Scope, Spending, Sum, day

if TYPE_CHECKING:
    from agentmesh.economy.prices import PriceBook
    from agentmesh.economy.usage import Usage
    from agentmesh.memory import Memory
    from agentmesh.tiers import Tier

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
    """On whose account a call is made: `session` is the session's number."""

    user: str
    session: int
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
        self._memory = memory
        self._prices = prices
        self._spending = Spending(memory, agent, prices)
        self._lock = Lock()
        self._held: dict[Account, tuple[frozenset[Sum], int]] = {}

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
            sums = {scope: self._sum(scope, who) for scope in self._limits}
            spent = self._memory.database.read(lambda c: self._spent(c, sums))
            for scope, limit in self._limits.items():
                held = sum(micro for other, micro in self._held.values() if sums[scope] in other)
                if spent[scope] + held + cost > limit:
                    raise _exceeded(scope, spent[scope], held, cost, limit, tier.name)
            self._held[account] = frozenset(sums.values()), cost

    def release(self, account: Account) -> None:
        """End a reservation, if there is one."""
        if self._limits:
            with self._lock:
                self._held.pop(account, None)

    def _spent(self, connection: Connection, sums: Mapping[Scope, Sum]) -> dict[Scope, int]:
        """Return what the ledger holds for each scope with a limit."""
        self._spending.advance(connection)
        return {scope: self._spending.spent(connection, one) for scope, one in sums.items()}

    def _sum(self, scope: Scope, who: Spender) -> Sum:
        if scope == "day":
            return Sum("day", day(self._memory.clock()))
        if scope == "user":
            return Sum("user", who.user)
        return Sum(scope, who.session, who.turn if scope == "turn" else 0)


def check_prices(budget: Budget, tiers: Sequence[Tier], prices: PriceBook) -> None:
    """Refuse a budget beside a tier whose calls it could not count."""
    for tier in tiers:
        if budget.limits and prices.price(tier.model_name) is None:
            raise ConfigError(
                f"a budget cannot count tier {tier.name!r}: the price of"
                f" {tier.model_name!r} is unknown",
                hint="give the tier a price=Price(input, output)",
            )


def _exceeded(scope: Scope, spent: int, held: int, cost: int, limit: int, tier: str) -> BudgetError:
    flying = f", ${held / 1e6:.4f} is in flight" if held else ""
    what = {"user": "the user", "day": "this day"}.get(scope, f"the {scope}")
    return BudgetError(
        f"{what} has spent ${spent / 1e6:.4f}{flying}; a call of tier {tier!r} would"
        f" add about ${cost / 1e6:.4f} and exceed ${limit / 1e6:.4f}",
        hint=f"raise Budget({scope}_usd=...)",
    )
