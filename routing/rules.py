"""Stage 1: rules in a readable file, for what can be seen at a glance."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from agentmesh.errors import ConfigError
from agentmesh.routing.steps import KINDS, Kind

TierHint = Literal["", "cheapest", "top"]
Use = Literal["decide", "block", "cue"]
SCANNED_CHARS = 20_000
"""Patterns look at the beginning of a message only, which bounds their time."""

_KEYS = frozenset(
    (
        "name",
        "kind",
        "tier",
        "use",
        "any",
        "all",
        "none",
        "min_chars",
        "max_chars",
        "example",
        "counterexample",
    )
)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: see the head of `rules.toml` for what each key means."""

    name: str
    kind: Kind
    tier: TierHint = ""
    use: Use = "decide"
    any: tuple[re.Pattern[str], ...] = ()
    all: tuple[re.Pattern[str], ...] = ()
    none: tuple[re.Pattern[str], ...] = ()
    min_chars: int = 0
    max_chars: int | None = None
    examples: tuple[str, ...] = field(default=(), repr=False)

    def matches(self, text: str) -> bool:
        """Return whether the rule applies to `text`."""
        if len(text) < self.min_chars or (
            self.max_chars is not None and len(text) > self.max_chars
        ):
            return False
        head = text[:SCANNED_CHARS]
        if any(pattern.search(head) for pattern in self.none):
            return False
        if not all(pattern.search(head) for pattern in self.all):
            return False
        return not self.any or any(pattern.search(head) for pattern in self.any)


@dataclass(frozen=True, slots=True)
class Rules:
    """An ordered list of rules; the first that matches counts.

    Example:
        rules = Rules.shipped()
        rules.match("thank you!").kind      # "simple"
    """

    rules: tuple[Rule, ...] = ()
    text: str = ""

    @classmethod
    def shipped(cls) -> Rules:
        """Return the rules that come with the package."""
        return _shipped()

    @classmethod
    def from_file(cls, path: str | Path) -> Rules:
        """Read a rule file; every mistake in it is named with the rule's name."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"the rule file {str(path)!r} cannot be read: {error}",
                hint="give the path of a TOML file like the shipped rules.toml",
            ) from error
        return cls.parse(text, source=str(path))

    @classmethod
    def parse(cls, text: str, *, source: str = "rules") -> Rules:
        """Return the rules of a TOML text."""
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{source}: not TOML: {error}", hint="see rules.toml") from error
        rows = table.get("rule", [])
        if not isinstance(rows, list) or set(table) - {"rule"}:
            raise ConfigError(f"{source}: only [[rule]] tables belong here", hint="see rules.toml")
        rules = tuple(_rule(row, source) for row in rows)
        names = [rule.name for rule in rules]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"{source}: two rules are named {name!r}", hint="rename one")
        return cls(rules, text)

    def match(self, text: str, use: Use = "decide") -> Rule | None:
        """Return the first rule of that use that matches `text`."""
        return next(self.matching(text, use), None)

    def matching(self, text: str, use: Use) -> Iterator[Rule]:
        """Yield the rules of that use that match `text`, in the file's order."""
        return (rule for rule in self.rules if rule.use == use and rule.matches(text))


@cache
def _shipped() -> Rules:
    text = resources.files(__package__).joinpath("rules.toml").read_text(encoding="utf-8")
    return Rules.parse(text, source="rules.toml")


def _rule(row: dict[str, Any], source: str) -> Rule:
    name = row.get("name")
    where = f"{source}: rule {name!r}"
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{source}: a rule has no name", hint="give every rule a `name`")
    if unknown := set(row) - _KEYS:
        raise ConfigError(
            f"{where} has the unknown key {min(unknown)!r}",
            hint=f"keys are {', '.join(sorted(_KEYS))}",
        )
    if row.get("kind") not in KINDS:
        raise ConfigError(
            f"{where} has the kind {row.get('kind')!r}", hint=f"kinds are {', '.join(KINDS)}"
        )
    if row.get("tier", "") not in get_args(TierHint):
        raise ConfigError(f"{where} has the tier {row['tier']!r}", hint="say cheapest or top")
    if row.get("use", "decide") not in get_args(Use):
        raise ConfigError(f"{where} has the use {row['use']!r}", hint="say decide, block or cue")
    rule = Rule(
        name,
        row["kind"],
        tier=row.get("tier", ""),
        use=row.get("use", "decide"),
        any=_patterns(row, "any", where),
        all=_patterns(row, "all", where),
        none=_patterns(row, "none", where),
        min_chars=_length(row, "min_chars", where) or 0,
        max_chars=_length(row, "max_chars", where),
        examples=(str(row.get("example", "")),),
    )
    _prove(rule, row, where)
    return rule


def _prove(rule: Rule, row: dict[str, Any], where: str) -> None:
    if rule.use != "decide" and rule.kind != "spam":
        raise ConfigError(
            f"{where} has use {rule.use!r} for {rule.kind!r}", hint="only spam is blocked by a rule"
        )
    if not (rule.any or rule.all):
        raise ConfigError(f"{where} has no pattern", hint="give `any` or `all`")
    if rule.max_chars is not None and rule.min_chars > rule.max_chars:
        raise ConfigError(
            f"{where} never matches: min_chars {rule.min_chars} is above max_chars "
            f"{rule.max_chars}",
            hint="swap them",
        )
    if not isinstance(row.get("example"), str) or not rule.matches(row["example"]):
        raise ConfigError(
            f"{where} does not match its example {row.get('example')!r}",
            hint="give an `example` that the rule is meant for, or mend its patterns",
        )
    if "counterexample" in row and rule.matches(str(row["counterexample"])):
        raise ConfigError(
            f"{where} matches its counterexample {row['counterexample']!r}",
            hint="narrow its patterns, or name what must not be there in `none`",
        )


def _patterns(row: dict[str, Any], key: str, where: str) -> tuple[re.Pattern[str], ...]:
    sources = row.get(key, [])
    if not isinstance(sources, list) or not all(isinstance(item, str) for item in sources):
        raise ConfigError(f"{where}: {key} must be a list of regular expressions", hint=f"{key}=[]")
    patterns = []
    for source in sources:
        try:
            patterns.append(re.compile(source, re.IGNORECASE | re.MULTILINE))
        except re.error as error:
            raise ConfigError(
                f"{where}: {source!r} is not a regular expression: {error}", hint="mend it"
            ) from error
    return tuple(patterns)


def _length(row: dict[str, Any], key: str, where: str) -> int | None:
    value = row.get(key)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise ConfigError(f"{where}: {key}={value!r}", hint="give a number of characters")
    return value
