import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.distill.formats import FORMATS, Example, export, read_examples
from agentmesh.distill.terms import Ruling
from agentmesh.distill.traces import plain
from agentmesh.errors import ConfigError, InputError

OWN = Ruling("language-model", {"rules:desk": "own"})
words = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
tools = st.lists(
    st.builds(
        lambda name, described: {
            "type": "function",
            "function": {
                "name": name,
                "description": described,
                "parameters": {"type": "object", "properties": {described: {"type": "string"}}},
            },
        },
        words,
        words,
    ),
    max_size=2,
)


@st.composite
def conversations(draw):
    messages = []
    if draw(st.booleans()):
        messages.append({"role": "system", "content": draw(words)})
    for n in range(draw(st.integers(1, 3))):
        messages.append({"role": "user", "content": draw(words)})
        for k in range(draw(st.integers(0, 2))):
            arguments = json.dumps({draw(words): draw(words)})
            ids = [f"c{n}.{k}.{i}" for i in range(draw(st.integers(1, 2)))]
            calls = [
                {"id": i, "function": {"name": draw(words), "arguments": arguments}} for i in ids
            ]
            text = draw(st.none() | words)
            messages.append({"role": "assistant", "content": text, "tool_calls": calls})
            messages += [{"role": "tool", "tool_call_id": i, "content": draw(words)} for i in ids]
        messages.append({"role": "assistant", "content": draw(words)})
    messages = tuple(plain(m) for m in messages)
    answers = [i for i, m in enumerate(messages) if m["role"] == "assistant"]
    trained = draw(st.lists(st.sampled_from(answers), min_size=1, unique=True).map(sorted))
    return Example(messages[: trained[-1] + 1], tuple(draw(tools)), tuple(trained))


def renumbered(example):
    """The example with its calls numbered by their place, as formats without ids have them."""
    names = {}
    for place, message in enumerate(example.messages):
        for i, call in enumerate(message.get("tool_calls") or ()):
            names[call["id"]] = f"call_{place - (example.messages[0]['role'] == 'system')}_{i}"
    text = json.dumps([list(example.messages), list(example.trained)])
    for old, new in names.items():
        text = text.replace(json.dumps(old), json.dumps(new))
    return json.loads(text), example.tools


@given(conversations())
def test_openai_rows_read_back_as_the_same_example(example):
    (row,) = FORMATS["openai"].dump(example)
    assert FORMATS["openai"].load(json.loads(json.dumps(row))) == example


@given(conversations())
def test_hugging_face_rows_read_back_as_the_same_examples(example):
    rows = list(FORMATS["huggingface"].dump(example))
    assert all(isinstance(row["tools"], str) for row in rows)
    found = [FORMATS["huggingface"].load(json.loads(json.dumps(row))) for row in rows]
    whole = list(example.trained) == example.answers
    assert found == ([example] if whole else list(example.singles()))


@given(conversations())
def test_sharegpt_rows_read_back_as_the_same_examples(example):
    rows = FORMATS["sharegpt"].dump(example)
    found = [FORMATS["sharegpt"].load(json.loads(json.dumps(row))) for row in rows]
    singles = list(example.singles())
    assert [e.tools for e in found] == [e.tools for e in singles]
    for one, other in zip(found, singles, strict=True):
        shift = other.messages[0]["role"] == "system"
        again = json.dumps(renumbered(other)[0])
        for place in range(len(other.messages)):
            for i in range(2):
                again = again.replace(f'"call_{place - shift}_{i}"', f'"@{place}_{i}"')
        assert json.dumps([list(one.messages), list(one.trained)]).replace('"call_', '"@') == again


def example(answer="Hello", trained=(1,)):
    return Example(
        ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": answer}), (), trained
    )


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_file_is_read_back_and_its_manifest_says_what_it_holds(name, tmp_path):
    path = tmp_path / "train.jsonl"
    examples = [example(f"Hello {i}") for i in range(3)]
    manifest = export(path, examples, format=name, terms=OWN, split="abc")
    assert list(read_examples(path, name)) == examples
    told = json.loads((tmp_path / "train.jsonl.manifest.json").read_text())
    assert (told["rows"], told["learned"], told["sha"]) == (3, 3, manifest.sha)
    assert told["terms"]["teachers"] == {"rules:desk": "own"}
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "train.jsonl",
        "train.jsonl.manifest.json",
    ]


def test_nothing_half_written_is_left_behind(tmp_path):
    def broken():
        yield example()
        raise InputError("stop")

    with pytest.raises(InputError, match="stop"):
        export(tmp_path / "a.jsonl", broken(), terms=OWN)
    with pytest.raises(ConfigError, match="no positive trace"):
        export(tmp_path / "a.jsonl", [], terms=OWN)
    with pytest.raises(ConfigError, match="cannot be written"):
        export(tmp_path / "nowhere" / "a.jsonl", [example()], terms=OWN)
    with pytest.raises(ConfigError, match="no format 'csv'"):
        export(tmp_path / "a.jsonl", [example()], format="csv", terms=OWN)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "line", "wrong"),
    [
        ("openai", "{}", "no messages"),
        ("openai", "[1]", "line 1 is no object"),
        ("openai", "{", "line 1"),
        ("openai", '{"messages": [{"role": "user", "content": "x"}]}', "to be learned"),
        ("openai", '{"messages": [{"role": "robot", "content": "x"}]}', "'robot'"),
        ("openai", '{"messages": [{"role": "user", "content": [1]}]}', "content is list"),
        ("huggingface", '{"messages": [], "tools": "["}', "tools is not JSON"),
        ("sharegpt", "{}", "no conversations"),
        ("sharegpt", '{"conversations": [{"from": "function_call", "value": "{"}]}', "not JSON"),
    ],
)
def test_rows_that_are_none_are_named(name, line, wrong, tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(InputError, match=wrong.replace("[", r"\[")):
        list(read_examples(path, name))


def test_an_example_learns_from_at_least_one_answer():
    with pytest.raises(InputError, match="to be learned"):
        example(trained=())
    with pytest.raises(InputError, match="to be learned"):
        example(trained=(0,))
