"""Whose answers may train what: the vendors' terms as a table, and the permission that overrides it.

Each trace names its teacher's vendor; an export for a pair that the vendor's terms do not allow
is refused until somebody states a permission, which is then kept with the data. This is a guard
against doing it by accident; it is not legal advice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from agentmesh.errors import ConfigError

StudentKind = Literal["classifier", "language-model", "hosted"]
"""A student of each kind: labels and templates, a model of language, one at its teacher's vendor."""

TermsClass = Literal["open", "no-competitor", "named", "own", "unknown"]
"""`open`: a free licence; `no-competitor`: no models that compete with the vendor's; `named`: free
under a condition, such as a name to carry; `own`: nobody else's; `unknown`: no rule is known."""

STUDENT_KINDS: tuple[StudentKind, ...] = ("classifier", "language-model", "hosted")


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of one vendor or family of models, what they allow, and where that is said."""

    vendor: str
    cls: TermsClass
    allows: frozenset[StudentKind]
    source: str


_ALL = frozenset(STUDENT_KINDS)

TABLE: tuple[Terms, ...] = (
    Terms(
        "anthropic",
        "no-competitor",
        frozenset({"classifier"}),
        "help page on training with outputs: classifiers, extraction, search that do not compete",
    ),
    Terms(
        "openai",
        "no-competitor",
        frozenset({"classifier", "hosted"}),
        "services agreement: no competing models; classifiers and fine-tuning at the vendor allowed",
    ),
    Terms(
        "google",
        "no-competitor",
        frozenset({"classifier"}),
        "Gemini API additional terms: no competing models",
    ),
    Terms(
        "xai", "no-competitor", frozenset({"classifier"}), "enterprise terms: no competing models"
    ),
    Terms("qwen", "open", _ALL, "Apache-2.0 for most sizes: check the model's card"),
    Terms("gpt-oss", "open", _ALL, "Apache-2.0"),
    Terms("deepseek", "open", _ALL, "MIT: distillation is allowed in words"),
    Terms("mistral", "open", _ALL, "Apache-2.0 models: check the model's card"),
    Terms("llama", "named", frozenset({"classifier"}), "community licence: 'Llama' in the name"),
    Terms("gemma", "named", frozenset({"classifier"}), "Gemma terms pass on to derived models"),
    Terms("student", "own", _ALL, "a student of yours: its own teacher's terms were checked then"),
    Terms("rules", "own", _ALL, "your own program's answers"),
)
"""What is known, by vendor or family. Everything else is `unknown` and allows nothing."""

_FAMILIES = (
    (r"gpt-oss", "gpt-oss"),
    (r"claude", "anthropic"),
    (r"gpt-|chatgpt|\bo[1-9]\b|davinci", "openai"),
    (r"gemini|palm", "google"),
    (r"grok", "xai"),
    (r"qwen|qwq", "qwen"),
    (r"deepseek", "deepseek"),
    (r"mi[sx]tral|ministral|magistral|devstral", "mistral"),
    (r"llama", "llama"),
    (r"gemma", "gemma"),
)
_VENDORS = {"anthropic", "openai", "google", "xai", "student", "rules"}
_OPEN_HOSTS = {"openai-compatible", ""}


def terms_of(teacher: str) -> Terms:
    """Return the terms of a teacher, a model string (`anthropic:...`) or a model's bare name."""
    vendor, _, name = teacher.rpartition(":")
    vendor = vendor.lower()
    known = {terms.vendor: terms for terms in TABLE}
    if vendor not in _VENDORS:
        family = next((f for pattern, f in _FAMILIES if re.search(pattern, name.lower())), "")
        vendor = family or vendor
    return known.get(vendor, Terms(vendor or "unknown", "unknown", frozenset(), "no rule is known"))


@dataclass(frozen=True, slots=True)
class Ruling:
    """Why these teachers may train this student; kept with the exported data."""

    student: StudentKind
    teachers: dict[str, str]
    permission: str = ""


def check_terms(teachers: Iterable[str], student: StudentKind, *, permission: str = "") -> Ruling:
    """Return why `teachers` may train a student of this kind.

    Args:
        teachers: model strings.
        student: what is trained.
        permission: who allowed it and where, for a pair that the terms do not allow.

    Raises:
        ConfigError: a pair is not allowed and no permission is stated.
    """
    if student not in STUDENT_KINDS:
        raise ConfigError(
            f"no student of kind {student!r}", hint=f"one of {', '.join(STUDENT_KINDS)}"
        )
    found = {teacher: terms_of(teacher) for teacher in sorted(set(teachers))}
    for teacher, terms in found.items():
        if student not in terms.allows and not permission.strip():
            raise ConfigError(
                f"the terms of {terms.vendor!r} do not let {teacher!r} train a {student}"
                f" ({terms.source})",
                hint="train another kind, leave those traces out, or state a permission:"
                " permission='who allowed it, and where'",
            )
    return Ruling(student, {name: terms.cls for name, terms in found.items()}, permission.strip())
