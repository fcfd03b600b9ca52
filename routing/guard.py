"""The bound on what routing may cost a session, whatever the router predicts."""

from __future__ import annotations

from agentmesh.errors import ConfigError


class Guard:
    """Keeps a session within `limit` of what its top tier alone would have cost it.

    What the top tier alone costs is known at every step, however the step is done: it reads what
    it has been shown before, writes what is new, and answers once. So a draft of a lower tier is
    admitted only if it may be lost: paid in vain, and the step made again by the top tier, which
    must first be shown all that it has missed (`admits`). As every admitted step leaves room for
    the top tier to catch up, going back to it never breaks the bound either.

    **The bound.** After every step, and so at the end of every session, for any predictions and
    any outcomes: `paid <= alone + max(limit * alone, stake_usd)`. The stake is what a session may
    lose before it has spent anything that a share could be taken of (`choice.stake_usd`): without
    one no session could begin below the top tier. It may be what an agent's other sessions have
    saved, so that all of them together are held to the bound. It counts no more once
    `limit * alone` has outgrown it, and 0 makes the share strict from the first step on.

    **What can still exceed it**, by no more than the difference: a lost draft that was longer than
    foreseen; a price that rises with the prompt's length (a cliff) before the top tier has caught
    up; several drafts of a tier in place of one where a user's escalations are used up; checks
    that ask a model, whose cost is counted when it has been paid. No draft below the top is
    admitted then until the session is within its bound again. What the top tier `had` cached and
    lost in a pause counts as lost to the top tier alone as well, though use might have kept it
    warm. Where the top tier cannot be asked, or a price is unknown, nothing is held.

    **What no guard can promise** is the same of a lower tier, the best single one for some
    sessions. Whether it would have done a step that another one did is unknown. A session that
    begins on the top tier has lost against a lower one that could have done everything, and one
    that begins below has lost against the top tier if the draft fails: no choice is safe from both.

    Example:
        guard = Guard(stake_usd=stake_usd(tokens, new, tiers, limit=0.02))
        choice = choose(tokens, tiers, success, outlook, guard, new_tokens=new)
        alone = alone_usd(tokens, new, tiers, had=guard.had)
        guard.record(paid_usd, alone, had=tokens_that_the_top_tier_has_cached_now)
    """

    def __init__(
        self,
        *,
        limit: float = 0.02,
        stake_usd: float = 0.0,
        paid: float = 0.0,
        alone: float = 0.0,
        had: int = 0,
    ) -> None:
        if not all(value >= 0 for value in (limit, stake_usd, paid, alone)):
            given = f"limit={limit!r}, stake_usd={stake_usd!r}, paid={paid!r}, alone={alone!r}"
            raise ConfigError(given, hint="give a share, and dollars, 0 or more")
        self.limit, self.stake_usd = limit, stake_usd
        self.paid, self.alone, self.had = paid, alone, had

    def record(self, paid: float, alone: float, *, had: int = 0) -> None:
        """Count what a step cost, and what it would have cost the top tier alone.

        `had` are the tokens that the top tier has cached in truth after the step.
        """
        if not (paid >= 0 and alone >= 0):
            raise ConfigError(f"paid={paid!r}, alone={alone!r}", hint="give dollars, 0 or more")
        self.paid, self.alone, self.had = self.paid + paid, self.alone + alone, had

    def bound(self, step: float = 0.0) -> float:
        """Return the dollars that the session may have cost once the top alone had paid `step`."""
        alone = self.alone + step
        return alone + max(self.limit * alone, self.stake_usd)

    def admits(self, draft: float, again: float, alone: float) -> bool:
        """Return whether a draft below the top tier may be lost within the bound.

        Args:
            draft: its dollars, and those of checking it.
            again: what the top tier pays to make the step now, with all that it has missed.
            alone: what the step costs a top tier that has missed nothing.
        """
        return self.paid + draft + again <= self.bound(alone)
