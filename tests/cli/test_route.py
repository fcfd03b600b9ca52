import json

import pytest

from agentmesh.cli import main


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["route", *arguments])
    out, err = capsys.readouterr()
    return ended.value.code or 0, out, err


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def own_examples():
    rows = [{"text": f"sonnet on a {w} sea", "label": "creative"} for w in WORDS]
    return rows + [{"text": f"derive the {w} bound of it", "label": "reasoning"} for w in WORDS]


WORDS = [f"{a}{b}" for a in ("green", "calm", "lost", "deep", "old") for b in ("ish", "er", "est")]


def test_trains_saves_and_uses_a_router_of_ones_own(capsys, tmp_path):
    out = tmp_path / "own.skops"
    status, text, _ = run(
        capsys, "train", write(tmp_path / "own.jsonl", own_examples()), "--out", str(out), "--json"
    )
    report = json.loads(text)
    assert status == 0
    assert out.exists()
    assert report["accuracy"]["low"] > report["commonest_kind"]
    status, text, _ = run(capsys, "explain", "sonnet on a flat sea", "--router", str(out), "--json")
    assert (status, json.loads(text)["kind"]) == (0, "creative")


def test_saves_nothing_that_is_no_better_than_chance(capsys, tmp_path):
    rows = [
        {"text": f"thing {w} number {i}", "label": ("creative", "reasoning")[(i * 7 // 3) % 2]}
        for i, w in enumerate(WORDS)
    ]
    out = tmp_path / "own.skops"
    status, _, err = run(
        capsys, "train", write(tmp_path / "own.jsonl", rows), "--out", str(out), "--no-shipped"
    )
    assert status != 0
    assert not out.exists()
    assert "not saved" in err


def test_evaluates_kinds_and_two_tiers(capsys, tmp_path):
    path = write(tmp_path / "k.jsonl", own_examples())
    status, text, _ = run(capsys, "eval", path, "--json")
    assert status == 0
    assert json.loads(text)["commonest kind"]["value"] == 0.5
    rows = [
        {"text": f"{'lemma' if i % 2 else 'tea'} {i}", "weak": i % 2 == 0, "strong": i % 7 != 0}
        for i in range(80)
    ]
    status, text, _ = run(capsys, "eval", write(tmp_path / "p.jsonl", rows), "--json")
    figures = json.loads(text)
    assert status == 0
    assert figures["above matched random"]["low"] > 0
    assert figures["oracle: right"]["value"] >= figures["always strong: right"]["value"]


def test_explains_in_words(capsys):
    status, text, _ = run(capsys, "explain", "Where is my order?")
    assert status == 0
    assert "admitted" in text
    assert "student (classifier)" in text
    assert "log-odds" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("eval", "nowhere.jsonl"), "cannot be read"),
        (("explain", "hi", "--router", "nowhere.skops"), "cannot be read"),
        (("explain", "hi", "--tiers", ","), "no tier"),
    ],
)
def test_says_what_is_wrong_in_one_line(capsys, arguments, message):
    status, _, err = run(capsys, *arguments)
    assert status != 0
    assert message in err
    assert "Traceback" not in err
