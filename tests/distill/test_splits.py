import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmesh.distill.clusters import Index, clusters, normal
from agentmesh.distill.leaks import Row, contamination, rows_of
from agentmesh.distill.log import read_traces
from agentmesh.distill.splits import Split, check_split, split
from agentmesh.errors import ConfigError, CorruptError

THINGS = (
    "router",
    "kettle",
    "bicycle",
    "sofa",
    "lamp",
    "carpet",
    "drill",
    "tent",
    "piano",
    "mirror",
)
PLACES = ("Berlin", "Lagos", "Lima", "Oslo", "Quito", "Seoul", "Turin", "Vienna", "Zagreb", "Perth")
TROUBLES = (
    "arrived with a crack along its left side",
    "never came although the parcel service says that it was handed over",
    "makes a loud noise whenever it rains",
    "has the wrong colour and smells of paint",
    "was charged twice on my statement in March",
)


def rows(n=300):
    rng = random.Random(7)
    made = []
    for i in range(n):
        thing, place, trouble = rng.choice(THINGS), rng.choice(PLACES), rng.choice(TROUBLES)
        words = [f"w{rng.randrange(10**6)}" for _ in range(4)]
        text = f"The {thing} I ordered to {place} {trouble}, see {' '.join(words)}."
        made.append(Row(f"r{i}", text, f"c{i // 2}", f"u{i // 5}"))
    return made


def test_texts_that_say_the_same_are_found():
    index = Index([row.text for row in rows()])
    asked = "hello, " + rows()[17].text.lower().replace("ordered", "bought") + " thanks"
    assert next(iter(index.similar([asked]))).match == 17
    assert list(index.similar(["what does a season ticket for the opera cost"])) == []
    assert clusters(["How are you?", "how are you", "Where is my parcel?", ""])[:3] == [0, 0, 1]


def test_normal_text_ignores_case_accents_and_punctuation():
    assert normal("  Où est — l'Hôtel?! ") == normal("ou est lhotel") == "ou est lhotel"


def test_a_split_keeps_conversations_customers_and_near_duplicates_together():
    made = rows()
    twin = Row("twin", "PLEASE: " + made[0].text.upper(), "c-new", "u-new")
    parts = split([*made, twin], validation=0.2, test=0.2)
    by_customer = {}
    for row in made:
        by_customer.setdefault(row.customer, set()).add(parts.of(row.id))
    assert all(len(where - {"unused"}) == 1 for where in by_customer.values())
    assert parts.of("twin") in (parts.of("r0"), "unused")
    sizes = {part: len(parts.ids(part)) for part in ("train", "validation", "test")}
    assert sizes["train"] > sizes["test"] > 20
    assert sizes["validation"] > 20
    for report in check_split([*made, twin], parts).values():
        report.check()


def test_a_split_is_the_same_whatever_the_order_and_another_with_another_seed():
    made = rows()
    one, other = split(made), split(made[::-1])
    assert dict(one.parts) == dict(other.parts)
    assert split(made, seed="1").parts != one.parts


def test_an_extended_split_moves_no_row():
    made = rows(400)
    first = split(made[:300], test=0.2)
    more = split(made, test=0.2, frozen=first)
    moved = [r for r, part in first.parts.items() if more.parts[r] not in (part, "unused")]
    assert moved == []
    assert all(more.parts[r] == "test" for r in first.ids("test"))
    for report in check_split(made, more).values():
        report.check()


def test_a_frozen_split_that_was_changed_is_refused(tmp_path):
    path = tmp_path / "split.json"
    made = split(rows())
    made.save(path)
    assert Split.load(path) == made
    value = json.loads(path.read_text())
    value["parts"]["r0"] = "test" if value["parts"]["r0"] != "test" else "train"
    path.write_text(json.dumps(value))
    with pytest.raises(CorruptError, match="was changed"):
        Split.load(path)
    path.write_text("[]")
    with pytest.raises(CorruptError, match="not a split"):
        Split.load(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        Split.load(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("made", "options", "wrong"),
    [
        ([], {}, "nothing to split"),
        ([Row("a", "x"), Row("a", "y")], {}, "two rows"),
        ([Row("a", "x", customer="u"), Row("b", "y", customer="u")], {}, "one group"),
        ([Row("a", "x")], {"test": 0.6, "validation": 0.6}, "shares|validation="),
    ],
)
def test_what_cannot_be_split_is_refused(made, options, wrong):
    with pytest.raises(ConfigError, match=wrong):
        split(made, **options)


def test_the_report_names_each_leak_by_its_plainest_kind_and_blocks():
    made = rows()
    train = made[:200]
    test = [
        Row("same", "something else entirely about a cat", "c1"),
        Row("copy", f"  {made[3].text.upper()} "),
        Row("person", "a question nobody else has about a cathedral", "", "u4"),
        Row("other words", "hi, " + made[9].text.replace("I ordered", "I had bought") + " thanks"),
        Row("fine", "does the museum in Ghent open on Mondays"),
    ]
    report = contamination(train, test)
    assert [(leak.test, leak.kind) for leak in report.leaks] == [
        ("same", "conversation"),
        ("copy", "exact"),
        ("person", "customer"),
        ("other words", "reworded"),
    ]
    assert report.leaks[3].train == "r9"
    assert report.to_json()["counts"] == {
        "conversation": 1, "exact": 1, "customer": 1, "reworded": 1,
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"4 of 5 test rows leak.*'same' is 'r"):
        report.check()
    contamination(train, test[-1:]).check()
    with pytest.raises(ConfigError, match="nothing to compare"):
        contamination([], test)


def test_a_conversation_is_one_row_with_all_its_customer_said(desk):
    m = desk.memory()
    desk.ask(m, "s1", "Where is it?", [desk.call(), desk.text("Shipped.")])
    desk.ask(m, "s1", "Thanks", [desk.text("Bye.")])
    assert rows_of(read_traces(m)) == [Row("s1", "Where is it?\nThanks", "s1", "u1")]


@settings(max_examples=8, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=30))
def test_no_customer_and_no_conversation_is_ever_in_two_parts(keys):
    made = [Row(str(i), f"w{i} x{i} y{i}", f"c{c}", f"u{u}") for i, (c, u) in enumerate(keys)]
    try:
        parts = split(made, validation=0.3, test=0.3)
    except ConfigError:
        return
    for name in ("conversation", "customer"):
        where = {}
        for row in made:
            where.setdefault(getattr(row, name), set()).add(parts.of(row.id))
        assert all(len(found - {"unused"}) <= 1 for found in where.values())
