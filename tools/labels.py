"""What text is worth: where it came from, and who may see it.

Permissions are decided on these labels, outside the model, so that no text can argue with them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from agentmesh.errors import ConfigError

Integrity = Literal["trusted", "user", "untrusted"]
"""Who could have written a text: the developer, the user, or anybody."""

Confidentiality = Literal["public", "internal", "private"]
"""Who may see a text: everybody, the organisation, or the person it is about."""

INTEGRITIES: tuple[Integrity, ...] = ("trusted", "user", "untrusted")
CONFIDENTIALITIES: tuple[Confidentiality, ...] = ("public", "internal", "private")


@dataclass(frozen=True, slots=True)
class Label:
    """The integrity, confidentiality and tenant of a piece of text."""

    integrity: Integrity = "trusted"
    confidentiality: Confidentiality = "public"
    tenant: str = ""

    def __post_init__(self) -> None:
        check("integrity", self.integrity, INTEGRITIES)
        check("confidentiality", self.confidentiality, CONFIDENTIALITIES)


def check(name: str, value: object, allowed: tuple[object, ...]) -> None:
    """Raise ConfigError if `value` is not one of `allowed`."""
    if value not in allowed:
        raise ConfigError(
            f"{name} cannot be {value!r}", hint="use one of " + ", ".join(map(repr, allowed))
        )


def lowest(labels: Iterable[Label]) -> Integrity:
    """Return the lowest integrity among `labels`: what a digest of them all is worth."""
    ranks = [INTEGRITIES.index(label.integrity) for label in labels]
    return INTEGRITIES[max(ranks, default=0)]


def highest(labels: Iterable[Label]) -> Confidentiality:
    """Return the highest confidentiality among `labels`: that of a digest of them all."""
    ranks = [CONFIDENTIALITIES.index(label.confidentiality) for label in labels]
    return CONFIDENTIALITIES[max(ranks, default=0)]
