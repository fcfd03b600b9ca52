"""Promotion: what may become a fact about a user that the user did not say.

A tool's output, an imported text and another user's words can be wrong or planted, and a fact of
the Profile is shown to every later prompt. The developer chooses once what becomes of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from agentmesh.errors import ConfigError


class Claim(NamedTuple):
    """A fact that somebody else than the user or the developer states.

    `bucket` is `profile` or `org`, `owner` whose it is; `quote` is what it rests on, where known.
    """

    bucket: str
    owner: str
    key: str
    value: Any
    source: str
    author: str
    trust: str
    quote: str = ""


Promotion = Literal["never", "ask"] | Callable[[Claim], bool]
"""Whether a claim may become a fact: never, once a person has agreed, or where a check says so."""

Verdict = Literal["stored", "pending", "refused"]

PROMOTED = frozenset({"profile", "org"})
"""The buckets that outlive a task."""


def check_promotion(promote: Promotion) -> Promotion:
    """Return the policy if it is one."""
    if not callable(promote) and promote not in ("never", "ask"):
        raise ConfigError(f"promote={promote!r}", hint="'never', 'ask' or a function of a claim")
    return promote


def judge(promote: Promotion, claim: Claim) -> Verdict:
    """Return what becomes of a claim under a policy; what is not untrusted is stored."""
    if claim.trust != "untrusted" or claim.bucket not in PROMOTED:
        return "stored"
    if callable(promote):
        return "stored" if promote(claim) else "refused"
    return "pending" if promote == "ask" else "refused"
