"""What an agent does about its router's choices, whatever the router predicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentmesh.errors import ConfigError

if TYPE_CHECKING:
    from agentmesh.routing.drafts import Check


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits that hold whatever is predicted, and the stages that cost a model call.

    >>> Policy(pin_after=2).guard
    0.02

    Example:
        policy = Policy(few_shot="student", checks=(verifier, Agreement(3), Judge("flagship")))
        agent = Agent(..., router=Router.auto().under(policy))

    Args:
        guard: the share by which a session may cost more than the top tier alone would have,
            whatever is predicted (see `Guard`); None for no guard.
        stake_usd: dollars that a session may lose before the share has come to as much; None for
            the share of what is foreseen, or five drafts of each lower tier where that does not
            buy one, or what the agent's latest sessions have saved. 0 is strict: a session begins on the top tier, unless the lower ones cost
            next to nothing.
        pin_after: drafts of a tier that fail before its kind of step goes above it, until the
            session's next epoch.
        escalations: of one user in a day; a step beyond them is not taken up, but tried again
            where it is. None for no limit.
        few_shot: the tier that is asked for the kind of a request where the classifier is unsure.
        sure: the probability of a kind from which the classifier need not ask.
        checks: more checks of a draft, such as a trained `Verifier`, `Agreement` or `Judge`.
    """

    guard: float | None = 0.02
    stake_usd: float | None = None
    pin_after: int = 3
    escalations: int | None = None
    few_shot: str | None = None
    sure: float = 0.6
    checks: tuple[Check, ...] = ()

    def __post_init__(self) -> None:
        if self.guard is not None and not self.guard >= 0:
            raise ConfigError(f"guard={self.guard!r}", hint="give a share such as 0.02, or None")
        if self.stake_usd is not None and not self.stake_usd >= 0:
            raise ConfigError(f"stake_usd={self.stake_usd!r}", hint="give dollars, or None")
        if self.pin_after < 1:
            raise ConfigError(f"pin_after={self.pin_after!r}", hint="give 1 or more")
        if self.escalations is not None and self.escalations < 0:
            raise ConfigError(f"escalations={self.escalations!r}", hint="give 0 or more, or None")
        if not 0 < self.sure <= 1:
            raise ConfigError(f"sure={self.sure!r}", hint="give a probability above 0, such as 0.6")
        for check in self.checks:
            if not callable(check):
                raise ConfigError(
                    f"{check!r} is no check", hint="give functions (draft, context) -> str | None"
                )
