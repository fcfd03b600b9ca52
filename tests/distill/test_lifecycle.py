import random

import pytest

from agentmesh.distill.lifecycle import Register
from agentmesh.distill.watch import Watch
from agentmesh.errors import ConfigError, CorruptError
from agentmesh.memory import Memory

MEASURED = {"success": 0.9, "baseline": 0.9}


@pytest.fixture
def register(tmp_path):
    (tmp_path / "student.bin").write_bytes(b"weights")
    return Register(Memory("sqlite://", clock=lambda: 5.0))


def student(tmp_path, register, **more):
    return register.add("desk", tmp_path / "student.bin", measured=MEASURED, by="ana", **more)


def test_a_student_goes_its_way_and_every_move_is_on_record(tmp_path, register):
    student(tmp_path, register, trained={"teacher": "anthropic:claude-opus-5-5"})
    for state in ("shadow", "canary", "live"):
        assert register.promote("desk", by="ana", why="measured").state == state
    with pytest.raises(ConfigError, match="is live"):
        register.promote("desk")
    live = register.verified("desk")
    assert [(e["from"], e["to"]) for e in live.events] == [
        ("", "candidate"), ("candidate", "shadow"), ("shadow", "canary"), ("canary", "live"),
    ]  # fmt: skip
    assert {(e["by"], e["at"]) for e in live.events} == {("ana", 5.0)}


def test_a_new_live_version_retires_the_old_one_and_a_rollback_brings_it_back(tmp_path, register):
    for version in (1, 2, 3):
        student(tmp_path, register)
        for _ in range(3):
            register.promote("desk", version)
    assert [v.state for v in register.versions("desk")] == ["retired", "retired", "live"]
    assert register.rollback("desk", by="ana").version == 2
    assert register.rollback("desk", why="worse too").version == 1
    assert register.rollback("desk") is None
    with pytest.raises(ConfigError, match="live or canary"):
        register.rollback("desk")
    assert register.versions("desk")[1].events[-1]["why"] == "worse too"


def test_a_canary_falls_without_touching_what_is_live(tmp_path, register):
    for version in (1, 2):
        student(tmp_path, register)
        for _ in range(3 if version == 1 else 2):
            register.promote("desk", version)
    advice = [register.observe("desk", 2, 0.0) for _ in range(20)]
    assert "rollback" in advice
    assert [v.state for v in register.versions("desk")] == ["live", "retired"]
    assert "0 of the last" in register.versions("desk")[1].events[-1]["why"]
    assert register.versions("desk")[1].events[-1]["by"] == "watch"
    assert register.observe("desk", 2, 0.0) == "continue"


def test_a_live_student_that_falls_silent_is_rolled_back(tmp_path, register):
    rng = random.Random(5)
    for version in (1, 2):
        student(tmp_path, register)
        for _ in range(2):
            register.promote("desk", version)
        for _ in range(100):
            register.heard("desk", version, served=rng.random() < 0.6)
        register.promote("desk", version)
    spoken = [register.heard("desk", 2, served=rng.random() < 0.6) for _ in range(300)]
    assert set(spoken) == {"continue"}
    silent = [register.heard("desk", 2, served=False) for _ in range(80)]
    assert silent.index("rollback") < 60
    assert [v.state for v in register.versions("desk")] == ["live", "retired"]
    last = register.versions("desk")[1].events[-1]
    assert (last["by"], last["why"][:14]) == ("watch", "serves 0 of th")
    assert register.heard("desk", 1, served=False) == "continue"


def test_belief_starts_from_what_was_measured_and_follows_the_runs(tmp_path, register):
    student(tmp_path, register)
    assert register.get("desk").belief == pytest.approx(0.9)
    for _ in range(2):
        register.promote("desk")
    for _ in range(20):
        register.observe("desk", 1, 1.0)
    assert register.get("desk").belief == pytest.approx(0.95)


def test_what_cannot_be_promoted_is_refused(tmp_path, register):
    with pytest.raises(ConfigError, match="no student 'desk'"):
        register.promote("desk")
    with pytest.raises(ConfigError, match="no student at"):
        register.add("desk", tmp_path / "nothing")
    register.add("desk", tmp_path / "student.bin")
    register.promote("desk")
    with pytest.raises(ConfigError, match="never measured"):
        register.promote("desk")
    student(tmp_path, register)
    (tmp_path / "student.bin").write_bytes(b"other weights")
    with pytest.raises(CorruptError, match="changed since"):
        register.promote("desk")
    with pytest.raises(ConfigError, match="no version of 'desk' is live"):
        register.verified("desk")
    assert [v.state for v in register.versions("desk")] == ["shadow", "candidate"]


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ({"success": 0.0, "answered": 0.0}, "answers 0 of 104 held-out calls, 10% are the least"),
        ({"success": 1.0, "answered": 10 / 104}, "answers 10 of 104"),
        (
            {"success": 0.9, "answered": 1.0},
            "94 of 104 held-out answers agree, and 98.0% are asked",
        ),
    ],
)
def test_a_student_that_answers_too_little_or_wrongly_is_not_promoted(
    tmp_path, register, found, why
):
    (tmp_path / "s.bin").write_bytes(b"weights")
    measured = {"baseline": 0.9, "calls": 104, "asked": 0.98, **found}
    register.add("desk", tmp_path / "s.bin", measured=measured)
    with pytest.raises(ConfigError, match=f"'desk' version 1 is not promoted: {why}"):
        register.promote("desk")
    assert register.get("desk").state == "candidate"


def test_a_student_that_is_silent_in_the_shadow_stays_there(tmp_path, register):
    measured = {"success": 0.97, "baseline": 0.9, "calls": 104, "asked": 0.98, "answered": 0.5}
    register.add("desk", tmp_path / "student.bin", measured=measured)
    assert register.promote("desk").state == "shadow"
    register.note("desk", 1, {"shadow": {"seen": 200, "answered": 19, "agreed": 19}})
    with pytest.raises(ConfigError, match="answers 19 of 200 calls in the shadow"):
        register.promote("desk")
    register.note("desk", 1, {"shadow": {"seen": 200, "answered": 20, "agreed": 20}})
    assert register.promote("desk").state == "canary"


def outcome(rng, rate, runs, **options):
    watch = Watch(0.9, **options)
    for i in range(runs):
        if (advice := watch.see(float(rng.random() < rate))) != "continue":
            return advice, i + 1
    return "continue", runs


def test_a_canary_ten_points_worse_is_rolled_back_and_an_equal_one_is_not():
    rng = random.Random(3)
    bad = [outcome(rng, 0.8, 200) for _ in range(200)]
    good = [outcome(rng, 0.9, 200) for _ in range(200)]
    assert sum(advice == "rollback" for advice, _ in bad) >= 170
    assert sum(advice == "rollback" for advice, _ in good) <= 10
    better = [outcome(rng, 0.97, 400)[0] for _ in range(100)]
    assert better.count("promote") >= 80


def test_a_live_student_that_slips_late_is_noticed():
    rng = random.Random(4)
    watch = Watch(0.9, mode="live")
    assert all(watch.see(float(rng.random() < 0.92)) == "continue" for _ in range(500))
    late = [watch.see(float(rng.random() < 0.6)) for _ in range(150)]
    assert "rollback" in late


def test_a_watch_is_stored_as_json_and_refuses_nonsense():
    watch = Watch(0.9)
    watch.see(1.0)
    assert Watch.from_json(watch.to_json()) == watch
    for _ in range(30):
        watch.see(0.5)
    assert watch.told() == "10 of the last 20 runs succeeded; 90.0% did before it"
    assert Watch.from_json(watch.to_json()) == watch
    live = Watch(0.9, mode="live")
    assert Watch.from_json(live.to_json()) == live
    with pytest.raises(ConfigError, match="success=2"):
        watch.see(2)
    with pytest.raises(ConfigError, match="baseline=0"):
        Watch(0)
