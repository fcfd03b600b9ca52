"""The router: what may enter, and which tier takes the next step, with the reason in words."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from agentmesh import canonical
from agentmesh.errors import ConfigError, TurnError
from agentmesh.routing.choice import Outlook, expected_costs
from agentmesh.routing.escalation import HALFWAY, escalate
from agentmesh.routing.policy import Policy
from agentmesh.routing.rules import Rule, Rules
from agentmesh.routing.steps import KINDS, Decision, Kind, Stage, Step, TierFacts, Verdict

if TYPE_CHECKING:
    from agentmesh.routing.classifier import TextClassifier
    from agentmesh.routing.fewshot import FewShot
    from agentmesh.routing.passing import Passing
    from agentmesh.routing.scope import Scope
    from agentmesh.routing.seeds import Example
    from agentmesh.routing.spam import SpamFilter

NEED: Mapping[Kind, float] = {
    "simple": 0.0,
    "formatting": 0.0,
    "tool": 0.0,
    "spam": 0.0,
    "off-topic": 0.0,
    "creative": 0.5,
    "complex": 1.0,
    "reasoning": 1.0,
}
"""How far up the tiers a kind needs to go: 0 is the cheapest, 1 the top."""

BAR = 0.7
"""The probability with which a tier must suffice to be chosen without knowledge of prices."""

TRIGGERS = 6
"""So many of a message's words, those that speak most for a higher tier, are not enough for one."""
LEAST_WORDS = 4
"""Other words that a message needs to be judged without them."""
LEEWAY = 0.1
"""How much likelier than `bar` a lower tier must be to do for what is left, to be taken after all."""
MOST_WORDS = 40
"""A message of more different words is not moved by a few of them."""

MAX_CHARS = 100_000
"""Longer messages are refused before anything reads them."""

_PARTS = (
    *("rules", "classifier", "spam", "scope", "bar", "need"),
    *("max_chars", "outlook", "steady", "passing", "pardons"),
)


class Reading(NamedTuple):
    """What the classifier makes of a text: probabilities of the kinds, and the spam log-odds."""

    probabilities: dict[str, float]
    spam_margin: float


class Router:
    """Blocks spam and picks tiers: rules first, then the classifier, then the capable tier.

    `bar` is the probability with which the chosen tier must suffice. Of the tiers that do, the
    cheapest over the steps that remain is taken (see `outlook`) where all tiers' prices are
    known, and the lowest where they are not. No model is called, but by `with_model`.

    A few words do not call a higher tier: with `steady`, what is left of a message without the
    six that speak most for it must do so, too. Of requests that are hard, those whose words say
    so in one place alone are then left to the cheaper tier and its checks (docs/routing.md has
    the figures). A quality contract is made on whole messages and is left as it is.

    `passing` is what the ledger has taught about the cheap tier; `pardons` are the fingerprints of
    messages that were blocked once and that a person has let in.

    Example:
        router = Router.auto()
        router.admit("You won a prize! Call 09061 701461 now", first=True).allowed   # False
        router.route(Step("Where is my order?"), tiers).tier                         # "student"
    """

    def __init__(
        self,
        rules: Rules | None = None,
        classifier: TextClassifier | None = None,
        *,
        spam: SpamFilter | None = None,
        scope: Scope | None = None,
        bar: float = BAR,
        need: Mapping[Kind, float] = NEED,
        max_chars: int = MAX_CHARS,
        outlook: Outlook | None = None,
        steady: bool = True,
        passing: Passing | None = None,
        pardons: Collection[str] = (),
    ) -> None:
        if not 0 < bar <= 1:
            raise ConfigError(f"bar={bar!r}", hint="give a probability above 0, such as 0.7")
        if max_chars < 1:
            raise ConfigError(f"max_chars={max_chars!r}", hint="give a number of characters")
        for kind, share in need.items():
            if kind not in KINDS or not 0 <= share <= 1:
                raise ConfigError(
                    f"need[{kind!r}]={share!r}",
                    hint=f"give each of {', '.join(KINDS)} a number within 0 and 1",
                )
        self.rules = Rules.shipped() if rules is None else rules
        self.classifier, self.spam, self.scope = classifier, spam, scope
        self.bar, self.max_chars = bar, max_chars
        self.outlook, self.steady = outlook or Outlook(), steady
        self.passing, self.pardons = passing, frozenset(pardons)
        self.model: FewShot | None = None
        self.policy = Policy()
        self.need = {**NEED, **need}
        self._read = lru_cache(maxsize=256)(self._read_anew)
        self._pull = lru_cache(maxsize=4096)(self._pull_anew)

    @classmethod
    def auto(cls) -> Router:
        """Return the router trained from the shipped examples; trained once per process."""
        return _auto()

    @classmethod
    def train(
        cls,
        examples: Sequence[Example],
        *,
        rules: Rules | None = None,
        scope: Scope | None = None,
        cue_features: bool = False,
        false_alarm_rate: float = 0.01,
        bar: float = BAR,
        need: Mapping[Kind, float] = NEED,
    ) -> Router:
        """Return a router trained on `examples`; labels are request kinds.

        `false_alarm_rate` bounds, with 95% confidence, the share of harmless messages that the
        spam filter blocks. Without spam among the examples only the rules block. Off-topic
        messages are blocked only with a `scope`, which says what belongs. `cue_features` let
        the classifier weigh the rules' cues: better with plenty of spam of one's own, worse on
        other people's traffic.
        """
        from agentmesh.routing.classifier import KIND_RECIPE, TextClassifier
        from agentmesh.routing.spam import SPAM, SpamFilter, cues

        rules = Rules.shipped() if rules is None else rules
        texts, labels = [row.text for row in examples], [row.label for row in examples]
        for i, label in enumerate(labels):
            if label not in KINDS:
                raise ConfigError(
                    f"example {i} has the kind {label!r}", hint=f"kinds are {', '.join(KINDS)}"
                )
        groups = [row.group or str(i) for i, row in enumerate(examples)]
        fitted = TextClassifier.cross_fit(
            texts,
            labels,
            recipe=KIND_RECIPE,
            groups=groups,
            facts=[cues(text, rules) for text in texts] if cue_features else None,
        )
        spam = None
        if SPAM in labels:
            spam = SpamFilter.calibrate(
                fitted, texts, labels, rules, false_alarm_rate=false_alarm_rate
            )
        return cls(rules, fitted.model, spam=spam, scope=scope, bar=bar, need=need)

    def with_model(self, model: FewShot | None) -> Router:
        """Return a router like this one that asks `model` where the classifier is unsure."""
        other = self.changed()
        other.model = model
        return other

    def under(self, policy: Policy) -> Router:
        """Return a router like this one whose agent keeps to a policy."""
        other = self.changed()
        other.policy = policy
        return other

    def steadied(self) -> Router:
        """Return a router like this one that a few trigger words cannot push up: see `steady`."""
        return self.changed(steady=True)

    def changed(self, **changes: Any) -> Router:
        """Return a router like this one, but for what the constructor takes anew."""
        other = Router(**{**{name: getattr(self, name) for name in _PARTS}, **changes})
        other.model, other.policy = self.model, self.policy
        return other

    def admit(self, text: str, *, first: bool = True) -> Verdict:
        """Return whether a customer's message may enter; costs no model call.

        Only the `first` message of a conversation is judged strictly: later ones are answers to
        the agent's own questions, and a block there does more harm than a spared call is worth.
        """
        if len(text) > self.max_chars:
            reason = f"the message has {len(text)} characters, {self.max_chars} are allowed"
            return Verdict(False, "too-large", 1.0, "rules", reason)
        if not text.strip():
            return Verdict(False, "empty", 1.0, "rules", "the message is empty")
        if self.pardons and fingerprint(text) in self.pardons:
            return Verdict(True, "simple", 1.0, "review", "a person has let this message in")
        if rule := self.rules.match(text, "block"):
            return Verdict(False, rule.kind, 1.0, "rules", f"the rule {rule.name!r} matches")
        reading = self._read(text)
        if reading is None or self.spam is None:
            return Verdict(True, "simple", 0.0, "rules", "no rule blocks it")
        chance = self.spam.probability(reading.spam_margin)
        if self.spam.blocks(text, reading.spam_margin, self.rules, first=first):
            cue = self.rules.match(text, "cue")
            reason = f"reads like spam ({chance:.0%}), with {cue.name if cue else 'no cue'!r}"
            return Verdict(False, "spam", chance, "classifier", reason)
        if first and self.scope is not None and self.rules.match(text) is None:
            guess = self.scope.guess(text)
            if guess.foreignness > self.scope.threshold:
                reason = f"none of the agent's subjects; the nearest is {guess.intent!r}"
                return Verdict(False, "off-topic", 1 - guess.probability, "classifier", reason)
        kinds = {k: p for k, p in reading.probabilities.items() if k != "spam"}
        kind = max(kinds, key=kinds.__getitem__)
        return Verdict(True, kind, kinds[kind], "classifier", f"reads like a {kind} request")

    def route(self, step: Step, tiers: Sequence[TierFacts]) -> Decision:
        """Return the tier for `step`; a failed step goes up, and the top's failure is an error."""
        order = _checked(tiers)
        if step.failures:
            return self._escalated(step, order)
        available = [tier for tier in order if tier.available] or [order[-1]]
        if rule := self.rules.match(step.text):
            return self._by_rule(rule, available)
        reading = self._read(step.text)
        if reading is None:
            return _decision(available[-1], "fallback", "no stage could decide", "complex", {})
        if self.model is not None and max(reading.probabilities.values()) < self.model.sure:
            return self._by_model(self.model, step, available)
        return self._by_reading(reading, available, step)

    def chances(self, step: Step, tiers: Sequence[TierFacts]) -> dict[str, float]:
        """Return how likely each tier's draft of a step is good enough; the top one's always is."""
        order = _checked(tiers)
        rule, reading = self.rules.match(step.text), self._read(step.text)
        if rule is not None:
            reading = Reading({rule.kind: 1.0}, 0.0)
        if reading is None:
            known = [HALFWAY if t.success is None else t.success for t in order[:-1]]
            return dict(zip((tier.name for tier in order), [*known, 1.0], strict=True))
        found = self._steady_chances(step.text, reading, order)
        return dict(zip((tier.name for tier in order), found, strict=True))

    def spam_margin(self, text: str) -> float:
        """Return the spam filter's log-odds on a text, which its threshold is compared with."""
        reading = self._read(text)
        return -50.0 if reading is None else reading.spam_margin

    def suffices(self, reading: Reading, position: int, count: int) -> float:
        """Return the probability that tier `position` of `count` (cheapest first) is enough."""
        reach = 1.0 if count < 2 else position / (count - 1)
        enough = [p for k, p in reading.probabilities.items() if self.need[k] <= reach]  # type: ignore[index]  # labels are kinds
        return min(1.0, sum(enough))

    def save(self, path: str | Path) -> None:
        """Write the router to one file that holds no code."""
        from agentmesh.routing import store

        store.save(
            path,
            {
                "rules": self.rules.text,
                "classifier": self.classifier.state if self.classifier else None,
                "spam": self.spam.state() if self.spam else None,
                "scope": self.scope.state() if self.scope else None,
                "bar": self.bar,
                "need": dict(self.need),
                "max_chars": self.max_chars,
                "steady": self.steady,
                "passing": self.passing.state() if self.passing else None,
                "pardons": sorted(self.pardons),
            },
        )

    @classmethod
    def load(cls, path: str | Path) -> Router:
        """Read a router that `save` wrote; a foreign or tampered file is refused."""
        from agentmesh.routing import store
        from agentmesh.routing.classifier import TextClassifier
        from agentmesh.routing.passing import Passing
        from agentmesh.routing.scope import Scope
        from agentmesh.routing.spam import SpamFilter

        state = store.load(path)
        try:
            return cls(
                Rules.parse(state["rules"], source=str(path)),
                TextClassifier(state["classifier"]) if state["classifier"] else None,
                spam=SpamFilter(**state["spam"]) if state["spam"] else None,
                scope=Scope.from_state(state["scope"]) if state["scope"] else None,
                bar=state["bar"],
                need=state["need"],
                max_chars=state["max_chars"],
                steady=state["steady"],
                passing=Passing.from_state(state["passing"]) if state.get("passing") else None,
                pardons=state.get("pardons", ()),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"the router file {str(path)!r} is incomplete: {error!r}",
                hint="train it again: agentmesh route train",
            ) from error

    def _read_anew(self, text: str) -> Reading | None:
        if self.classifier is None or not text.strip():
            return None
        from agentmesh.routing.spam import SPAM, cues

        facts = [cues(text, self.rules)] if self.classifier.facts else None
        logits = self.classifier.logits([text], facts)
        shares = self.classifier.calibrated(logits)[0]
        labels = self.classifier.labels
        margin = float(logits[0, labels.index(SPAM)]) if SPAM in labels else -50.0
        return Reading(dict(zip(labels, map(float, shares), strict=True)), margin)

    def _escalated(self, step: Step, order: Sequence[TierFacts]) -> Decision:
        last = step.failures[-1]
        tier = escalate(step.failures, order)
        if tier is None:
            raise TurnError(
                f"every tier failed; the last one, {last.tier!r}, on the check {last.check!r}: "
                f"{last.reason}",
                hint="add a more capable tier or a fallback reply",
            )
        reason = f"{last.tier} failed the check {last.check!r}: {last.reason}"
        return _decision(tier, "escalation", reason, "complex", {})

    def _by_rule(self, rule: Rule, available: Sequence[TierFacts]) -> Decision:
        need = {"cheapest": 0.0, "top": 1.0}.get(rule.tier, self.need[rule.kind])
        tier = available[_position(need, len(available))]
        return _decision(tier, "rules", f"the rule {rule.name!r} matches", rule.kind, {})

    def _chances(self, text: str, reading: Reading, available: Sequence[TierFacts]) -> list[float]:
        """Return the chance that each tier is enough; the top one always is."""
        chances = [
            self._chance(tier, text, self.suffices(reading, i, len(available)))
            for i, tier in enumerate(available[:-1])
        ]
        return [*chances, 1.0]

    def _chance(self, tier: TierFacts, text: str, kinds: float) -> float:
        """Return what is known best: this step's measure, the ledger's lesson, the kind."""
        if tier.success is not None:
            return tier.success
        if self.passing is None or tier.name != self.passing.tier:
            return kinds
        passes = 1 - self.passing.fails(text)
        if self.passing.contract is None:
            return passes
        return max(self.bar, passes) if self.passing.allows(text) else 0.0

    def _steady_chances(
        self, text: str, reading: Reading, available: Sequence[TierFacts]
    ) -> list[float]:
        """Do as `_chances`, but for what a few words alone would change."""
        found = self._chances(text, reading, available)
        proven = self.passing is not None and self.passing.contract is not None
        if not self.steady or proven or found[0] >= self.bar:
            return found
        rest = self._without_triggers(text)
        part = self._read(rest) if rest else None
        if part is None:
            return found
        left = self._chances(rest, part, available)
        return list(map(max, found, left)) if left[0] >= min(1.0, self.bar + LEEWAY) else found

    def _without_triggers(self, text: str) -> str:
        """Return a text without the words that speak most for a higher tier; "" if none is left."""
        words = text.split()
        distinct = {word.casefold() for word in words}
        spare = min(TRIGGERS, len(distinct) - LEAST_WORDS)
        if spare < 1 or len(distinct) > MOST_WORDS:
            return ""
        strongest = set(sorted(distinct, key=lambda word: (-self._pull(word), word))[:spare])
        return " ".join(word for word in words if word.casefold() not in strongest)

    def _pull_anew(self, word: str) -> float:
        """Return how much a word by itself speaks for the kinds that need the most."""
        if self.passing is not None:
            return self.passing.fails(word)
        if self.classifier is None:
            return 0.0
        from agentmesh.routing.spam import cues

        facts = [cues(word, self.rules)] if self.classifier.facts else None
        logits = self.classifier.logits([word], facts)[0]
        most = max(self.need.values())
        hard = {kind for kind, need in self.need.items() if need == most}
        kinds = enumerate(self.classifier.labels)
        return float(max((logits[i] for i, kind in kinds if kind in hard), default=0.0))

    def _by_model(self, model: FewShot, step: Step, available: Sequence[TierFacts]) -> Decision:
        kind = model.kind(step.text)
        if kind is None:
            reason = "the classifier was unsure, and the model gave no answer"
            return _decision(available[-1], "fallback", reason, "complex", {})
        tier = available[_position(self.need[kind], len(available))]
        reason = f"the classifier was unsure; the model calls it a {kind} request"
        return _decision(tier, "model", reason, kind, {})

    def _by_reading(self, reading: Reading, available: Sequence[TierFacts], step: Step) -> Decision:
        kind = max(reading.probabilities, key=reading.probabilities.__getitem__)
        found = self._steady_chances(step.text, reading, available)
        chances = {tier.name: chance for tier, chance in zip(available, found, strict=True)}
        enough = [tier for tier in available if chances[tier.name] >= self.bar]
        tier, why, costs = enough[0], "", dict[str, float]()
        if len(enough) > 1 and all(tier.prices is not None for tier in available):
            costs = expected_costs(
                step.prompt_tokens, available, chances, step.outlook or self.outlook
            )
            tier = min(enough, key=lambda t: costs[t.name])
            why = ", costing " + ", ".join(f"{t.name} ${costs[t.name]:.4f}" for t in enough)
        reason = f"reads like a {kind} request; {tier.name} suffices with {chances[tier.name]:.0%}"
        decision = _decision(tier, "classifier", reason + why, kind, reading.probabilities)
        return replace(decision, chances=chances, costs=costs)


@cache
def _auto() -> Router:
    from agentmesh.routing.seeds import seeds

    return Router.train(seeds())


def fingerprint(text: str) -> str:
    """Return what names a message in `pardons`: spacing and case do not matter."""
    return canonical.sha(" ".join(text.casefold().split()))


def _checked(tiers: Sequence[TierFacts]) -> list[TierFacts]:
    if not tiers:
        raise ConfigError("there is no tier to route to", hint="give at least one tier")
    names = [tier.name for tier in tiers]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two tiers are named {name!r}", hint="rename one of them")
    return sorted(tiers, key=lambda tier: tier.rank)


def _position(need: float, count: int) -> int:
    return next(i for i in range(count) if count == 1 or i / (count - 1) >= need)


def _decision(
    tier: TierFacts, stage: Stage, reason: str, kind: str, probabilities: Mapping[str, float]
) -> Decision:
    return Decision(tier.name, stage, reason, kind, dict(probabilities))
