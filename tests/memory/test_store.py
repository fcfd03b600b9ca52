from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmesh.errors import InputError
from agentmesh.memory import Memory
from agentmesh.memory.conformance import say
from agentmesh.memory.store import BucketStore

ME = ("profile", "u1")


@pytest.fixture
def store(memory: Memory) -> BucketStore:
    return BucketStore(memory)


def test_both_sides_see_the_same_facts(memory: Memory, store: BucketStore) -> None:
    memory.clock = lambda: 60.0
    store.put(ME, "language", {"value": "German"})
    item = memory.profile("u1").item("language")
    assert item is not None
    assert (item.value, item.source, item.trust) == ("German", "agent", "user")
    memory.profile("u1").set("plan", {"name": "gold"})
    seen = store.get(ME, "plan")
    assert seen is not None
    assert (seen.value, seen.namespace, seen.key) == ({"name": "gold"}, ME, "plan")
    assert seen.created_at.timestamp() == 60.0
    store.delete(ME, "language")
    assert store.get(ME, "language") is None
    store.delete(ME, "language")
    assert memory.profile("u1").get("language") is None


def test_what_is_put_is_shown_to_the_next_call(memory: Memory, store: BucketStore) -> None:
    say(memory)
    store.put(("task", "s1"), "order", {"value": "#W1"})
    note = next(e for e in say(memory).entries if e.kind == "note")
    assert 'task.order: "#W1"' in note.blocks[0]["text"]


@given(
    st.dictionaries(
        st.text(max_size=5), st.none() | st.integers() | st.text() | st.lists(st.none())
    )
)
@settings(max_examples=60, deadline=None)
def test_any_dict_comes_back_as_it_was(value: dict[str, Any]) -> None:
    memory = Memory("sqlite://")
    store = BucketStore(memory)
    for given_ in (value, {"value": value}):
        store.put(ME, "k", given_)
        held = store.get(ME, "k")
        assert held is not None
        assert held.value == given_
    memory.close()


def test_search(memory: Memory, store: BucketStore) -> None:
    store.put(ME, "favourite_drink", {"value": "green tea", "strength": 3})
    store.put(ME, "city", {"value": "Bonn", "strength": 5})
    store.put(("org", "acme"), "hours", {"value": "9-17"})
    store.put(("profile", "u10"), "city", {"value": "Ulm"})
    assert [item.key for item in store.search(ME)] == ["city", "favourite_drink"]
    assert store.search(ME, query="tea, please")[0].key == "favourite_drink"
    assert [item.key for item in store.search(ME, filter={"strength": 5})] == ["city"]
    for condition, keys in (
        ({"$gte": 3, "$lt": 5}, ["favourite_drink"]),
        ({"$ne": 5}, ["favourite_drink"]),
        ({"$gt": "x"}, []),
    ):
        assert [i.key for i in store.search(ME, filter={"strength": condition})] == keys
    assert len(store.search(())) == 4
    assert len(store.search((), limit=3)) == 3
    assert len(store.search((), limit=3, offset=3)) == 1
    with pytest.raises(InputError, match=r"\$where"):
        store.search(ME, filter={"strength": {"$where": "1=1"}})


def test_list_namespaces(memory: Memory, store: BucketStore) -> None:
    for namespace in (ME, ("profile", "u2"), ("task", "s1"), ("org", "acme")):
        store.put(namespace, "a", {"value": 1})
    store.delete(("profile", "u2"), "a")
    assert store.list_namespaces() == [("org", "acme"), ME, ("task", "s1")]
    assert store.list_namespaces(prefix=("profile",)) == [ME]
    assert store.list_namespaces(suffix=("s1",)) == [("task", "s1")]
    assert store.list_namespaces(prefix=("*", "acme")) == [("org", "acme")]
    assert store.list_namespaces(max_depth=1) == [("org",), ("profile",), ("task",)]
    assert store.list_namespaces(limit=1, offset=1) == [ME]


def test_async_is_the_same(memory: Memory, store: BucketStore) -> None:
    async def work() -> Any:
        await store.aput(ME, "a", {"value": 1})
        await store.aput(ME, "b", {"value": 2})
        await store.adelete(ME, "b")
        return await store.aget(ME, "a"), await store.asearch(ME), await store.alist_namespaces()

    item, found, namespaces = asyncio.run(work())
    assert item == store.get(ME, "a")
    assert [one.key for one in found] == ["a"]
    assert namespaces == [ME]


@pytest.mark.parametrize("namespace", [("x",), ("profile",), ("memories", "u1"), ("a", "b", "c")])
def test_another_namespace_is_refused(store: BucketStore, namespace: tuple[str, ...]) -> None:
    for use in (
        lambda: store.get(namespace, "a"),
        lambda: store.put(namespace, "a", {"value": 1}),
    ):
        with pytest.raises(InputError, match="not a bucket"):
            use()
    assert store.search(namespace) == []


def test_a_tenant_is_not_reached(url: str) -> None:
    acme, other = Memory(url, tenant="acme"), Memory(url, tenant="other")
    BucketStore(acme).put(ME, "secret", {"value": 1})
    assert BucketStore(other).search(()) == []
    assert BucketStore(other).list_namespaces() == []
    assert BucketStore(other).get(ME, "secret") is None
    acme.close()
    other.close()
