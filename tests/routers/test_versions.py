import hashlib

import pytest
from sqlalchemy import text

from agentmesh.errors import ConfigError, CorruptError
from agentmesh.memory import Memory
from agentmesh.routers import LiveRouter, Versions
from agentmesh.routing import Router, Rules

GOOD = {"value": 0.2, "low": 0.1, "high": 0.3}
WHO = {"by": "ann", "why": "a test"}


@pytest.fixture
def memory():
    made = Memory("sqlite://", clock=lambda: 7.0)
    yield made
    made.close()


def router(bar=0.7):
    return Router(Rules.shipped(), bar=bar)


def test_saves_activates_and_rolls_back_with_who_when_and_why(memory):
    versions = Versions(memory)
    assert versions.live() is None
    first = versions.save(router(0.6), **WHO)
    second = versions.save(router(0.8), trained={"rows": 9}, measured=GOOD, **WHO)
    assert [one.state for one in versions.all()] == ["candidate", "candidate"]
    versions.activate(1, by="ann", why="the first")
    versions.activate(2, by="bob", why="measured better")
    assert versions.load(versions.live().version).bar == 0.8
    back = versions.rollback(by="eve", why="complaints")
    assert (back.version, versions.load(back.version).bar) == (first.version, 0.6)
    told = [(e["from"], e["to"], e["by"], e["why"]) for e in versions.get(second.version).events]
    assert told == [
        ("", "candidate", "ann", "a test"),
        ("candidate", "live", "bob", "measured better"),
        ("live", "retired", "eve", "complaints"),
    ]
    assert all(e["at"] == 7.0 for e in back.events)
    assert versions.rollback(by="eve", why="all of them") is None
    assert versions.live() is None
    with pytest.raises(ConfigError, match="no version of the router 'router' is live"):
        versions.rollback(**WHO)


@pytest.mark.parametrize("measured", [None, {"value": 0.1, "low": -0.02, "high": 0.2}])
def test_activates_nothing_learned_that_is_not_proven_to_beat_chance(memory, measured):
    versions = Versions(memory)
    versions.save(router(), trained={"rows": 9}, measured=measured, **WHO)
    with pytest.raises(ConfigError, match="not proven to beat a random choice"):
        versions.activate(1, **WHO)
    assert versions.live() is None


def test_refuses_a_file_that_was_changed(memory):
    versions = Versions(memory)
    versions.save(router(), **WHO)
    memory.database.write(lambda c: c.execute(text("UPDATE model_files SET body = x'00'")))
    with pytest.raises(CorruptError, match="router@1 is not the one that was saved"):
        versions.activate(1, **WHO)


def test_a_live_file_that_was_changed_stops_no_agent(memory, caplog):
    versions = Versions(memory)
    versions.save(router(0.6), **WHO)
    versions.activate(1, **WHO)
    memory.database.write(lambda c: c.execute(text("UPDATE model_files SET body = x'00'")))
    now = LiveRouter(memory)
    assert now.bar == Router.auto().bar
    assert "the live router cannot be read" in caplog.text


def test_refuses_a_foreign_file_whose_hash_is_right(memory):
    versions = Versions(memory)
    versions.save(router(), **WHO)
    body = b"PK but no archive"
    sha = hashlib.sha256(body).hexdigest()
    for table, values in (("model_files", "body=:b, sha=:s"), ("models", "sha=:s")):
        change = text(f"UPDATE {table} SET {values}").bindparams(s=sha)
        change = change.bindparams(b=body) if ":b" in values else change
        memory.database.write(lambda c, change=change: c.execute(change))
    with pytest.raises(ConfigError, match="not a router file"):
        versions.load(1)


def test_tenants_and_names_see_their_own_only(tmp_path):
    url = f"sqlite:///{tmp_path}/a.db"
    mine, theirs = Memory(url, tenant="mine"), Memory(url, tenant="theirs")
    Versions(mine).save(router(), **WHO)
    Versions(mine, "desk").save(router(), **WHO)
    assert len(Versions(mine).all()) == len(Versions(mine, "desk").all()) == 1
    assert Versions(theirs).all() == []
    with pytest.raises(ConfigError, match="no version 1"):
        Versions(theirs).load(1)
    mine.erase(tenant="mine")
    left = theirs.database.read(lambda c: c.execute(text("SELECT count(*) FROM model_files")))
    assert left.scalar() == 0
    mine.close()
    theirs.close()


@pytest.mark.parametrize("given", [{"by": "", "why": "x"}, {"by": "x", "why": ""}])
def test_wants_to_know_who_and_why(memory, given):
    with pytest.raises(ConfigError, match="by="):
        Versions(memory).save(router(), **given)
    assert Versions(memory).all() == []
