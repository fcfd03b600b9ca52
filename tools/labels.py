"""What text is worth: where it came from, and who may see it.

Permissions are decided on these labels, outside the model, so that no text can argue with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from agentmesh.errors import ConfigError

if TYPE_CHECKING:
    from agentmesh.tools.declarations import Declaration

Integrity = Literal["trusted", "user", "untrusted"]
"""Who could have written a text: the developer, the user, or anybody."""

SideEffect = Literal["none", "local", "external"]
"""What a call leaves behind: nothing, something that can be undone here, something elsewhere."""

Confidentiality = Literal["public", "internal", "private"]
"""Who may see a text: everybody, the organisation, or the person it is about."""

INTEGRITIES: tuple[Integrity, ...] = ("trusted", "user", "untrusted")
SIDE_EFFECTS: tuple[SideEffect, ...] = ("none", "local", "external")
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


class Permission(NamedTuple):
    """Whether a call may run, and why in words that a person can judge."""

    verdict: Literal["allowed", "ask", "deny"]
    reason: str


def permitted(
    declaration: Declaration, labels_read: Iterable[Label], args: Mapping[str, Any]
) -> Permission:
    """Decide on labels alone whether a tool may be called after reading what was read.

    The rule of two: of untrusted input, sensitive data and a side effect, at most two may come
    together without a person; and an effect outside is never caused by untrusted text alone.

    Args:
        declaration: What the tool states of itself.
        labels_read: The labels of everything that the model was shown in this turn.
        args: The call's arguments, for approval by condition.
    """
    labels = tuple(labels_read)
    integrity, secrecy = lowest(labels), highest(labels)
    untrusted, private = integrity == "untrusted", secrecy == "private"
    leaves = declaration.side_effect == "external"
    if declaration.side_effect != "none" and len({x.tenant for x in labels if x.tenant}) > 1:
        return Permission("deny", "the turn has read text of more than one tenant")
    if INTEGRITIES.index(integrity) > INTEGRITIES.index(declaration.accepts):
        return Permission(
            "deny",
            f"the turn has read {integrity} text, and this tool accepts none below "
            f"{declaration.accepts}",
        )
    if leaves and CONFIDENTIALITIES.index(secrecy) > CONFIDENTIALITIES.index(declaration.sends):
        reason = f"it could send out {secrecy} text, and may send {declaration.sends} text at most"
        return Permission("deny" if untrusted else "ask", reason)
    if leaves and untrusted:
        return Permission("ask", "the turn has read untrusted text, and this acts outside")
    if declaration.side_effect == "local" and untrusted and private:
        return Permission(
            "ask", "untrusted text, private data and a side effect come together here"
        )
    if declaration.needs_approval(dict(args)):
        return Permission("ask", "the tool asks for approval of this call")
    return Permission("allowed", "")
