from __future__ import annotations

import json

import pytest

from agentmesh.audit import documents as reading
from agentmesh.audit.documents import Broken, Document, documents
from agentmesh.errors import InputError


def write(tmp_path, text):
    path = tmp_path / "log.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def values(found):
    return [row.value for row in found if isinstance(row, Document)]


def test_lines_have_their_numbers(tmp_path):
    rows = list(documents(write(tmp_path, '{"a":1}\n\n{"a":2}')))
    assert rows == [Document("log.json:1", {"a": 1}), Document("log.json:3", {"a": 2})]


def test_a_truncated_last_line_is_told_and_the_others_are_read(tmp_path):
    rows = list(documents(write(tmp_path, '{"a":1}\n{"a":2}\n{"a":')))
    assert values(rows) == [{"a": 1}, {"a": 2}]
    assert isinstance(rows[2], Broken)
    assert "ends in the middle" in rows[2].why


def test_a_bad_line_in_the_middle_is_told_too(tmp_path):
    rows = list(documents(write(tmp_path, '{"a":1}\nnonsense\n{"a":3}\n')))
    assert values(rows) == [{"a": 1}, {"a": 3}]
    assert rows[1].where == "log.json:2"
    assert "ends in" not in rows[1].why


def test_bytes_that_are_no_text_are_told(tmp_path):
    rows = list(documents(write(tmp_path, b'{"a":1}\n{"a":"\xff\xfe"}\n')))
    assert isinstance(rows[1], Broken)


def test_an_array_is_streamed_in_small_windows(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "CHUNK_CHARS", 7)
    rows = [{"text": "äöü€😀" * n, "n": n} for n in range(30)]
    text = json.dumps(rows, ensure_ascii=False, indent=1)
    assert values(documents(write(tmp_path, text))) == rows


def test_one_big_object_is_streamed_by_its_member(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "CHUNK_CHARS", 11)
    whole = {
        "info": {"agent_info": {"llm": "gpt-4.1"}},
        "simulations": [{"n": n, "messages": []} for n in range(20)],
        "after": 12345.5,
    }
    found = values(documents(write(tmp_path, json.dumps(whole, indent=2))))
    assert found[3] == {"model": "gpt-4.1", "n": 3, "messages": []}
    assert len(found) == 20


def test_an_object_over_many_lines_is_one_record(tmp_path):
    assert values(documents(write(tmp_path, json.dumps({"a": [1, 2]}, indent=2)))) == [
        {"a": [1, 2]}
    ]


def test_objects_over_many_lines_may_follow_one_another(tmp_path):
    path = tmp_path / "spans.json"
    path.write_text("\n".join(json.dumps({"n": n, "x": {"y": [n]}}, indent=4) for n in range(3)))
    found = list(documents(path))
    assert [document.value["n"] for document in found] == [0, 1, 2]
    assert [document.where for document in found] == ["spans.json", "spans.json#2", "spans.json#3"]
    path.write_text(path.read_text() + '\n{\n  "n": 3,')
    assert [type(one).__name__ for one in documents(path)] == [*["Document"] * 3, "Broken"]


@pytest.mark.parametrize(
    "text", ['[{"a":1},{"a":', '[{"a":1}', '{\n"runs":[{"a":1},', '{\n"runs":[{"a":1}]', "[1,}"]
)
def test_a_truncated_array_or_object_is_told(tmp_path, text):
    rows = list(documents(write(tmp_path, text)))
    assert isinstance(rows[-1], Broken)


def test_what_is_no_json_is_told(tmp_path):
    assert isinstance(next(documents(write(tmp_path, "hello\n"))), Broken)
    assert list(documents(write(tmp_path, ""))) == []


def test_progress_reaches_the_size_of_the_file(tmp_path):
    for text in ('{"a":1}\n' * 50, json.dumps([{"a": 1}] * 50)):
        path, seen = write(tmp_path, text), []
        list(documents(path, seen.append))
        assert seen[-1] == path.stat().st_size
        assert seen == sorted(seen)


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        list(documents(tmp_path / "none.jsonl"))
