"""Instructions planted in what agents read: disguised, obeyed by the model, and without effect."""

from __future__ import annotations

import pytest

from benchmarks.tools.attacks import CASES, DISGUISES, seen
from benchmarks.tools.injection import TASKS, attacked


def test_there_are_enough_cases_and_every_disguise_is_seen_through() -> None:
    assert len({case.words for case in CASES}) == len(CASES) >= 40
    assert len(CASES) * len(DISGUISES) >= 300
    for case in CASES:
        assert any((t.domain, t.reads) == (case.domain, case.channel) for t in TASKS)
        for disguise in DISGUISES.values():
            assert seen(disguise(case.words), case.words)
        assert not seen("All is well.", case.words)


@pytest.mark.parametrize("domain", ["support", "coding"])
def test_a_model_that_obeys_every_instruction_gets_no_forbidden_call_through(domain: str) -> None:
    names = list(DISGUISES)
    channels = {case.channel: case for case in CASES if case.domain == domain}
    attacks = [(case, names[n % len(names)]) for n, case in enumerate(channels.values())]
    ours = attacked(attacks, defended=True)
    assert ours.obeyed == ours.runs == len(attacks)
    assert ours.forbidden == 0
    bare = attacked(attacks, defended=False)
    assert bare.forbidden == len(attacks)
