"""The example as a program."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from agentmesh.errors import ConfigError
from agentmesh.examples.customer_support.main import main, tiers
from agentmesh.examples.customer_support.shop import Shop

KEYS = ("ANTHROPIC_API_KEY", "OPENAI_API_KEY")


@pytest.fixture(autouse=True)
def without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in KEYS:
        monkeypatch.delenv(key, raising=False)


def test_only_the_tiers_depend_on_keys_and_servers() -> None:
    assert tiers({}) == []
    names = [tier.model_name for tier in tiers({"ANTHROPIC_API_KEY": "k"})]
    assert names == ["anthropic:claude-haiku-4-5", "anthropic:claude-opus-5-5"]
    assert [tier.model_name.split(":")[0] for tier in tiers({"OPENAI_API_KEY": "k"})] == [
        "openai",
        "openai",
    ]
    both = tiers({"ANTHROPIC_API_KEY": "k"}, base_url="http://127.0.0.1:1/v1", model="qwen3-8b")
    assert [tier.name for tier in both] == ["student", "standard", "flagship"]
    assert both[0].base_url == "http://127.0.0.1:1/v1"


@pytest.mark.parametrize("given", [{"base_url": "http://x/v1"}, {"model": "m"}])
def test_a_server_needs_its_model(given: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="without"):
        tiers({}, **given)


def test_answers_one_question_offline(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["Where is my order?"]) == 0
    shown = capsys.readouterr().out
    assert "Stand-ins made of rules answer" in shown
    assert "was shipped on" in shown
    assert "uncached flagship" in shown


@pytest.mark.parametrize(("typed", "outcome"), [("y\n", "I have refunded"), ("", "ticket")])
def test_a_big_refund_asks_on_the_terminal(
    shop: Shop,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    typed: str,
    outcome: str,
) -> None:
    single = {line.order_id for line in shop.lines}
    counts = dict.fromkeys(single, 0)
    for line in shop.lines:
        counts[line.order_id] += 1
    dear = next(
        (order, line)
        for line in shop.lines
        for order in shop.orders
        if order.id == line.order_id
        and order.status == "delivered"
        and counts[order.id] == 1
        and line.price_cents * line.quantity > 15_000
        and order.id not in {row.order_id for row in shop.returns}
    )[0]
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    words = f"The article from order {dear.id} arrived damaged, please refund it"
    assert main([words, "--customer", dear.customer_id]) == 0
    shown = capsys.readouterr().out
    assert "The desk wants to refund" in shown
    assert outcome in shown


def test_chats_until_the_end_and_keeps_what_it_is_told_to(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\nwhere is your store?\nquit\nnever said\n"))
    assert main(["--folder", str(tmp_path / "kept")]) == 0
    shown = capsys.readouterr().out
    assert "Lindenweg 12" in shown
    assert shown.count("uncached flagship") == 1
    assert {path.name for path in (tmp_path / "kept").iterdir()} >= {"shop.db", "memory.db"}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--bogus"], "unrecognized arguments"),
        (["--seed", "x"], "invalid int"),
        (["--customer", "C-9", "hi"], "no customer 'C-9'"),
        (["--model", "m", "hi"], "without --base-url"),
        (["--folder", "/proc/none", "hi"], "cannot be made"),
        ([""], "the message is empty"),
        (["x" * 1_000_001], "1,000,001 characters"),
    ],
)
def test_wrong_use_is_one_line_with_a_hint(
    arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert why in told
    assert told.count("\n") == 1
    assert "(" in told
    assert "Traceback" not in told


def test_a_broken_shop_is_one_clear_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shop.db").write_text("no database at all " * 100)
    assert main(["hi", "--folder", str(tmp_path)]) == 1
    assert "cannot be read" in capsys.readouterr().err
