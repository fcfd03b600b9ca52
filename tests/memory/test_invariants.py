"""Memory's invariants under what nobody thought of: any script, any interleaving, any damage."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, text, update

from agentmesh import canonical
from agentmesh.errors import AgentmeshError, ConflictError, CorruptError, InputError, StoreError
from agentmesh.memory import Memory
from agentmesh.memory.conformance import begin, say
from agentmesh.memory.render import prefix_text
from agentmesh.memory.tables import buckets, calls, entries, epochs, metadata

SLOW = settings(
    deadline=None,
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

NAMES = st.sampled_from(["language", "größe", "a.b-c", "order_2"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)  # fmt: skip
FACTS = st.tuples(
    st.sampled_from(["profile", "task", "org"]), NAMES, JSON.filter(lambda v: v is not None)
)
SCRIPTS = st.lists(FACTS | st.text(max_size=60), min_size=1, max_size=8)

_WORKER = """
import json, sys
from tests_memory_script import run
for line in sys.stdin:
    print(run("sqlite://", "default", json.loads(line)), flush=True)
"""

_SCRIPT = '''
from agentmesh import canonical
from agentmesh.memory import Memory
from agentmesh.memory.conformance import say
from agentmesh.memory.render import prefix_text

def run(url, tenant, steps):
    """Return the hash of all prompts that a script of edits and messages makes."""
    memory = Memory(url, tenant=tenant, organisation=lambda user: "acme", clock=lambda: 1.0)
    texts = []
    for step in [*steps, "the end"]:
        if isinstance(step, str):
            texts.append(prefix_text(say(memory, step)))
            continue
        kind, key, value = step
        owner = {"profile": "u1", "task": "s1", "org": "acme"}[kind]
        getattr(memory, kind)(owner).set(key, value)
    memory.verify()
    memory.close()
    return canonical.sha("".join(texts))
'''


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("script")
    (folder / "tests_memory_script.py").write_text(_SCRIPT)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def elsewhere(script: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Give two processes with other hash seeds, which run scripts."""
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER],
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(script), "PYTHONHASHSEED": seed},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("0", "4711")
    ]
    yield workers
    for worker in workers:
        worker.communicate()


def asked(worker: subprocess.Popen[str], steps: Any) -> str:
    pipe, answers = worker.stdin, worker.stdout
    assert pipe is not None
    assert answers is not None
    pipe.write(json.dumps(steps) + "\n")
    pipe.flush()
    return answers.readline().strip()


@SLOW
@given(steps=SCRIPTS)
def test_any_script_makes_the_same_bytes_in_other_processes_and_on_both_databases(
    url: str, elsewhere: list[subprocess.Popen[str]], steps: Any
) -> None:
    from tests_memory_script import run  # type: ignore[import-not-found]  # the fixture writes it

    tenant = canonical.sha(canonical.dumps(steps))[:32]
    memory = Memory(url, tenant=tenant)
    again = bool(memory.sessions())  # an example that Hypothesis runs twice
    memory.close()
    if not again:
        here = run(url, tenant, steps)
        assert {asked(worker, steps) for worker in elsewhere} == {here}


@SLOW
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["read", "write", "delete", "update"]), NAMES),
        max_size=30,
    )
)
def test_no_update_is_lost_however_writers_interleave(steps: list[tuple[int, str, str]]) -> None:
    """Three writers, each with what it has read last: a write over something newer is refused."""
    memory = Memory()
    read: list[dict[str, int]] = [{}, {}, {}]
    truth: dict[str, tuple[int, Any]] = {}  # revision and value that hold
    edits = 0
    for number, (who, what, key) in enumerate(steps):
        task = memory.task("s1")
        if what == "read":
            held = task.item(key)
            read[who][key] = held.revision if held else 0
        elif what == "write":
            newest = truth.get(key, (0, None))[0]
            try:
                item = task.set(key, number, expect=read[who].get(key, 0))
            except ConflictError:
                assert read[who].get(key, 0) != newest
                continue
            assert read[who].get(key, 0) == newest
            edits += 1
            truth[key] = read[who][key], _ = item.revision, number
        elif what == "update":
            item = task.update(key, lambda old: [*(old if isinstance(old, list) else [old]), 1])
            edits += 1
            truth[key] = item.revision, item.value
        else:
            task.delete(key)
            edits += truth.pop(key, None) is not None
        assert {i.key: (i.revision, i.value) for i in task.items()} == truth
    versions = sum(len(memory.task("s1").history(key)) for key in {key for _, _, key in steps})
    assert versions == edits
    memory.close()


@SLOW
@given(
    steps=st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["open", "say", "end", "wait"])))
)
def test_no_entry_is_lost_or_doubled_however_holders_interleave(
    steps: list[tuple[int, str]],
) -> None:
    """Three holders take one session over from each other as leases end: what is flushed stays."""
    now = [1_000.0]
    memory = Memory(clock=lambda: now[0])
    holders: list[Any] = [None, None, None]
    kept: list[str] = []
    for number, (who, what) in enumerate(steps):
        turn, word = holders[who], f"{who}:{number}"
        said = [{"type": "text", "text": word}]
        if what == "wait":
            now[0] += 121
        elif what == "open":
            with suppress(StoreError):
                holders[who] = memory.open_turn(
                    session="s1", user="u1", agent="a", blocks=said, wait_s=0
                )
                kept.append(word)
        elif turn is not None:
            with suppress(StoreError):
                turn.add("assistant", said)
                turn.flush("idle" if what == "end" else "running")
                kept.append(word)
            if what == "end":
                holders[who] = None
    if kept:
        shown = [e.blocks[0]["text"] for e in memory.history("s1").entries()]
        assert shown == kept
        memory.verify()
    memory.close()


def cells(memory: Memory) -> list[tuple[Any, Any, str]]:
    """Return every text cell that a prompt or a proof is made of: table, key, column."""
    found: list[tuple[Any, Any, str]] = []
    columns = {entries: ("body", "kind", "chain"), epochs: ("frozen",), calls: ("tail", "marks")}
    for table, names in columns.items():
        keys = list(table.primary_key.columns)
        query = select(*keys).order_by(*keys)
        for row in memory.database.read(lambda c, q=query: c.execute(q).all()):
            where = [key == value for key, value in zip(keys, row, strict=True)]
            found += [(table, where, name) for name in names]
    return found


@SLOW
@given(data=st.data())
def test_any_damage_to_what_was_sent_is_found(data: st.DataObject) -> None:
    memory = Memory()
    memory.task("s1").set("order", "#W1")
    for word in ("one", "two"):
        say(memory, word, reply=f"answer to {word}")
    table, where, name = data.draw(st.sampled_from(cells(memory)))
    column = table.c[name]
    old = memory.database.read(lambda c: c.execute(select(column).where(*where)).scalar_one())
    at = data.draw(st.integers(0, len(old)))
    new = data.draw(
        st.sampled_from([old[:at], old[:at] + "x" + old[at:], old[:at] + old[at + 1 :], "", "{}"])
    )
    memory.database.write(lambda c: c.execute(update(table).where(*where).values({name: new})))
    memory._views.clear()  # what the process had read before
    if new == old:
        memory.verify()
    else:
        with pytest.raises(CorruptError) as caught:
            memory.verify()
        assert "restore" in caught.value.hint
    memory.close()


def rows(memory: Memory) -> dict[str, int]:
    """Return how many rows each table holds."""
    tables = [table for table in metadata.tables.values() if table.name != "alembic_version"]
    return {
        table.name: memory.database.read(
            lambda c, t=table: c.execute(select(func.count()).select_from(t)).scalar_one()
        )
        for table in tables
    }


@SLOW
@given(spare=st.integers(0, 40), size=st.integers(1, 60_000))
def test_a_full_database_keeps_what_it_had_and_takes_nothing_by_halves(
    tmp_path_factory: pytest.TempPathFactory, spare: int, size: int
) -> None:
    now = [1_000.0]
    url = f"sqlite:///{tmp_path_factory.mktemp('full')}/m.db"
    memory = Memory(url, limits={"task": 10**6}, clock=lambda: now[0])
    say(memory)
    before, pages = rows(memory), _pragma(memory, "page_count")
    _pragma(memory, f"max_page_count={pages + spare}")
    refused = _refused(lambda: memory.task("s1").set("big", "x" * size), StoreError)
    assert refused is None or ("full" in str(refused) and refused.hint and rows(memory) == before)
    refused = _refused(lambda: say(memory, "y" * size), StoreError)
    assert refused is None or "full" in str(refused)
    _pragma(memory, "max_page_count=1000000")
    memory.verify()
    now[0] += 121  # the lease of the turn that could not be stored is over
    say(memory, "and it goes on")
    assert memory.history("s1").entries()[-1].blocks[0]["text"] == "hello"
    memory.verify()
    memory.close()


def _refused(work: Callable[[], object], kind: type[AgentmeshError]) -> AgentmeshError | None:
    """Return the error that work was refused with, if it was."""
    try:
        work()
    except kind as error:
        return error
    return None


def _pragma(memory: Memory, what: str) -> int:
    run = text(f"PRAGMA {what}")
    return int(memory.database.write(lambda c: c.execute(run).scalar_one()))


@SLOW
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["profile", "task", "org"]),
            st.one_of(st.text(max_size=3), st.integers(), st.none(), st.just("x" * 129), NAMES),
            JSON | st.just("x" * 40_000) | st.just({1, 2}) | st.just(float("nan")),
        ),
        max_size=6,
    )
)
def test_a_refused_item_leaves_no_trace(steps: list[tuple[str, Any, Any]]) -> None:
    """Keys of any type, values of any size: stored whole and readable, or refused whole."""
    memory = Memory()
    for kind, key, value in steps:
        bucket = getattr(memory, kind)("o1")
        held, before = bucket.items(), rows(memory)
        refused = _refused(lambda b=bucket, k=key, v=value: b.set(k, v), InputError)
        if refused:
            assert refused.hint
            assert bucket.items() == held
            assert rows(memory) == before
        else:
            said = canonical.clean(canonical.dumps(value))
            assert canonical.dumps(bucket.get(key)) == said
        assert bucket.tokens() == memory.database.read(
            lambda c, k=kind: c.execute(
                select(func.coalesce(func.sum(buckets.c.tokens), 0)).where(buckets.c.kind == k)
            ).scalar_one()
        )
    memory.close()


@SLOW
@given(
    tenants=st.lists(st.text(min_size=1, max_size=8), min_size=2, max_size=3, unique=True),
    key=NAMES,
)
def test_a_tenant_sees_and_erases_nothing_of_another(
    tmp_path_factory: pytest.TempPathFactory, tenants: list[str], key: str
) -> None:
    url = f"sqlite:///{tmp_path_factory.mktemp('tenants')}/m.db"
    opened = []
    for name in tenants:
        with suppress(InputError):  # a name that is none
            opened.append(Memory(url, tenant=name))
    for memory in opened:
        memory.profile("u1").set(key, memory.tenant)
        say(memory, memory.tenant)
    for memory in opened:
        assert memory.profile("u1").get(key) == memory.tenant
        assert memory.history("s1").entries()[0].blocks[0]["text"] == memory.tenant
        assert memory.sessions() == ["s1"]
        memory.erase(tenant=memory.tenant)
    left = [rows(memory) for memory in opened[-1:]]
    assert all(table == "tombstones" or not n for held in left for table, n in held.items())
    for memory in opened:
        memory.close()


@pytest.mark.parametrize("version", ["9999", "zzzz", "0001x"])
def test_a_database_from_the_future_is_left_as_it_is(file_url: str, version: str) -> None:
    memory = Memory(file_url)
    say(memory)
    change = text("UPDATE alembic_version SET version_num=:v").bindparams(v=version)
    memory.database.write(lambda c: c.execute(change))
    memory.close()
    file = Path(file_url.removeprefix("sqlite:///"))
    before = file.read_bytes()
    with pytest.raises(StoreError) as caught:
        Memory(file_url)
    assert caught.value.hint
    assert file.read_bytes() == before


def test_a_read_only_database_can_be_read_and_refuses_writes(file_url: str) -> None:
    memory = Memory(file_url)
    memory.profile("u1").set("language", "German")
    prompt = say(memory)
    memory.close()
    path = file_url.removeprefix("sqlite:///")
    readonly = Memory(f"sqlite:///file:{path}?mode=ro&uri=true")
    assert readonly.profile("u1").get("language") == "German"
    assert readonly.verify().calls == 1
    made = readonly.ledger.calls()[0]
    assert prefix_text(readonly.rebuild("s1", made)) == prefix_text(prompt)
    for write in (
        lambda: readonly.profile("u1").set("language", "French"),
        lambda: begin(readonly),
        lambda: readonly.erase(user="u1"),
    ):
        with pytest.raises(StoreError, match="read-only"):
            write()
    readonly.close()
    memory = Memory(file_url)
    assert memory.profile("u1").get("language") == "German"
    assert memory.verify().entries == 3
    memory.close()
