"""`agentmesh route` on the database of an agent that has worked for a while."""

import json
import random

import pytest

from agentmesh import Agent, Price, Tier
from agentmesh.cli import main
from agentmesh.routing import Router
from agentmesh.testing import Answer, emulator

SPAM = "You won a prize! Call 09061 701461 now"


HARD = ("merge", "lege")


def student(request):
    hard = any(word in request.user_text for word in HARD)
    return Answer("I promise to see to it." if hard else "On its way.")


def no_promises(draft, context):
    return "it promises" if "promise" in draft.text else None


def work(path, texts, name="s"):
    """Let an agent answer some messages, each in a session of its own."""
    with emulator({"small": student, "big": lambda _request: Answer("Done.")}) as server:
        url = server.openai_url
        tiers = [
            Tier("student", "openai-compatible:small", base_url=url, price=Price("0.1", "0.1")),
            Tier("flagship", "openai-compatible:big", base_url=url, price=Price("9", "9")),
        ]
        agent = Agent(
            "desk", "You serve.", tiers=tiers, memory=f"sqlite:///{path}", checks=[no_promises]
        )
        for i, text in enumerate(texts):
            agent.invoke(text, user="u", session=f"{name}{i}")
        agent.memory.close()


def messages(hard, easy, count):
    rng = random.Random(0)
    return [(hard if i % 5 < 2 else easy).format(rng.randrange(999)) for i in range(count)]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    path = tmp_path_factory.mktemp("desk") / "desk.db"
    hard, easy = "Please merge cart {} into mine and split the bill", "Where is parcel {} please?"
    work(path, messages(hard, easy, 60))
    work(path, [SPAM], name="bad:one")
    return path


@pytest.fixture
def db(recorded, tmp_path):
    copy = tmp_path / "desk.db"
    copy.write_bytes(recorded.read_bytes())
    return str(copy)


@pytest.fixture
def run(capsys):
    def call(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(["route", *arguments])
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return call


def told(run, *arguments):
    status, out, err = run(*arguments, "--json")
    assert status == 0, err
    return json.loads(out)


def test_learns_shows_replays_and_rolls_back(run, db):
    status, out, _ = run("learn", db, "--least", "1000")
    assert (status, "nothing to do: 60 new labels, 1000 are needed" in " ".join(out.split())) == (
        0,
        True,
    )
    done = told(run, "learn", db, "--alpha", "0.2", "--by", "cron")
    assert done["done"] == "activated"
    assert "above matched random by +" in done["reason"]
    assert told(run, "learn", db)["done"] == "nothing"
    now = told(run, "status", db)
    assert now["version"]["state"] == "live"
    assert [tier["tier"] for tier in now["tiers"]] == ["student", "flagship"]
    assert now["models"][0]["answered"] > 0
    _, out, _ = run("status", db)
    for words in ("router@1", "contract: at most 20.0%", "1 messages blocked", "closed"):
        assert words in " ".join(out.split())
    again = told(run, "replay", db, "--router", "1")
    assert again["now"] == {"student": 36, "flagship": 24}
    assert again["expected"] < again["paid"]  # nothing is drafted twice
    _, out, _ = run("replay", db, "--router", "1")
    assert "60 turns, replayed by 1" in out
    status, out, _ = run("rollback", db, "--why", "a test")
    assert (status, out) == (0, "the shipped router is live\n")
    status, out, _ = run("activate", db, "1", "--why", "it was good", "--by", "ann")
    assert (status, out) == (0, "router@1 is live\n")
    (version,) = told(run, "versions", db)
    assert [event["to"] for event in version["facts"]["events"]] == [
        "candidate",
        "live",
        "retired",
        "live",
    ]
    _, out, _ = run("versions", db)
    assert "ann: it was good" in " ".join(out.split())


def test_reviews_a_blocked_message(run, db):
    (blocked,) = told(run, "review", db)
    assert (blocked["id"], blocked["text"], blocked["label"]) == ("bad:one0:1", SPAM, "")
    _, out, _ = run("review", db)
    assert "bad:one0:1" in out
    assert SPAM in " ".join(out.split())
    done = told(run, "review", db, "bad:one0:1", "simple", "--why", "our campaign", "--by", "ann")
    assert done["live"] == "router@1"
    assert told(run, "review", db) == []
    assert told(run, "review", db, "--all")[0]["by"] == "ann"
    assert told(run, "replay", db, "--router", "1")["newly_admitted"] == ["bad:one0:1"]
    _, out, _ = run("review", db, "bad:one0:1", "spam", "--why", "no, it is not", "--by", "ann")
    assert "bad:one0:1 is spam, says ann" in out
    assert told(run, "replay", db, "--router", "2")["newly_admitted"] == []


def test_explains_a_recorded_call(run, db):
    run("learn", db)
    found = told(run, "explain", "1", "--db", db)
    assert found["call"].startswith("call 1 · session s0, turn 1, step 0 · act · student")
    assert found["outcome"].startswith("check:no_promises, $0.0")
    assert set(found["prices"]) == set(found["chances"]) == {"student", "flagship"}
    assert found["features"]
    _, out, _ = run("explain", "1", "--db", db)
    shown = " ".join(out.split())
    for words in ("student (", "→ student", "dollars per million tokens", "log-odds", "merge cart"):
        assert words in shown


def test_learns_a_verifier_beside_the_router_and_takes_it_back(run, db, tmp_path):
    done = told(run, "learn", db, "--by", "cron")["verifier"]
    assert (done["done"], done["version"]["name"]) == ("activated", "verifier")
    assert done["version"]["facts"]["trained"]["by"] == {"check:no_promises": 24, "accepted": 36}
    assert told(run, "status", db)["verifier"]["state"] == "live"
    _, out, _ = run("status", db)
    assert "verifier: verifier@1 +" in " ".join(out.split())
    assert "judges student, above the base rate" in " ".join(out.split())
    _, out, _ = run("learn", db)
    assert "verifier: nothing to do: 0 new labels, 50 are needed (60 labels)" in " ".join(
        out.split()
    )
    status, out, _ = run("rollback", db, "--name", "verifier", "--why", "a test")
    assert (status, out) == (0, "no verifier is live\n")
    (version,) = told(run, "versions", db, "--name", "verifier")
    assert version["facts"]["events"][-1]["why"] == "a test"
    status, out, _ = run("activate", db, "1", "--name", "verifier", "--why", "it was good")
    assert (status, out) == (0, "verifier@1 is live\n")
    Router.auto().save(tmp_path / "own.skops")
    status, _, err = run(
        "save", db, str(tmp_path / "own.skops"), "--name", "verifier", "--why", "x"
    )
    assert status != 0
    assert "is not a verifier file" in err


def test_drift_is_told_learned_from_and_the_version_before_can_come_back(run, db):
    assert told(run, "learn", db, "--alpha", "0.2")["done"] == "activated"
    hard = "Bitte lege Warenkorb {} zu meinem und teile die Rechnung auf"
    work(db, messages(hard, "Wo ist denn Paket {} gerade?", 70), name="de")
    found = told(run, "status", db)
    assert found["drift"]["alarm"]
    assert "retrain" in found["version"]["facts"]["void"]
    _, out, _ = run("status", db)
    for words in ("router@1", "contract: VOID, every step goes up", "drift: alarm: ", "retrain"):
        assert words in " ".join(out.split())
    done = told(run, "learn", db, "--alpha", "0.2", "--by", "cron")
    assert (done["done"], done["version"]["version"]) == ("activated", 2)
    found = told(run, "status", db)
    assert (found["version"]["version"], found["drift"]) == (2, None)
    first, second = told(run, "versions", db)
    assert [first["state"], second["state"]] == ["retired", "live"]
    assert [event["by"] for event in first["facts"]["events"]].count("drift alarm") == 1
    status, out, _ = run("rollback", db, "--why", "complaints", "--by", "ann")
    assert (status, out) == (0, "router@1 is live\n")
    assert "retrain" in told(run, "status", db)["version"]["facts"]["void"]  # as it was


def test_keeps_a_routers_file_as_a_version(run, db, tmp_path):
    Router.auto().save(tmp_path / "own.skops")
    status, out, _ = run("save", db, str(tmp_path / "own.skops"), "--why", "from the laboratory")
    assert (status, out) == (0, "router@1 is saved\n")
    (tmp_path / "bad.skops").write_bytes(b"import os")
    status, _, err = run("save", db, str(tmp_path / "bad.skops"), "--why", "evil")
    assert status != 0
    assert "not a router file" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("status", "nowhere.db"), "no database"),
        (("status", "DB", "--hours", "0"), "hours=0"),
        (("review", "DB", "bad:one0:1"), "what was 'bad:one0:1'?"),
        (("review", "DB", "bad:one0:1", "ham", "--why", "x"), "'ham' is no request kind"),
        (("review", "DB", "bad:one0:1", "simple"), "why=''"),
        (("review", "DB", "s999:1", "simple", "--why", "x"), "no message 's999:1'"),
        (("replay", "DB", "--router", "7"), "no version 7"),
        (("replay", "DB", "--router", "gone.skops"), "cannot be read"),
        (("activate", "DB", "7", "--why", "x"), "no version 7"),
        (("rollback", "DB", "--why", "x"), "no version of the router"),
        (("learn", "DB", "--least", "0"), "least=0"),
        (("learn", "DB", "--tier", "nobody", "--least", "1"), "no tier 'nobody'"),
        (("explain", "9999", "--db", "DB"), "no call '9999'"),
    ],
)
def test_says_what_is_wrong_in_one_line(run, db, arguments, message):
    status, _, err = run(*(db if one == "DB" else one for one in arguments))
    assert status != 0
    assert message in err
    assert err.count("\n") == 1
