import subprocess
import sys
import zipfile

import pytest

from agentmesh.errors import ConfigError, TurnError
from agentmesh.routing import (
    Example,
    Failure,
    Outlook,
    Router,
    Step,
    TierFacts,
    TierPrices,
    seeds,
)

TIERS = (
    TierFacts("student", "openai-compatible:small", 0),
    TierFacts("standard", "anthropic:claude-haiku-4-5", 1),
    TierFacts("flagship", "anthropic:claude-opus-5-5", 2),
)

HARMLESS = [
    "WHERE IS MY ORDER 48213?!?! I paid for express!!!",
    "wtf, third time now. refund me",
    "pls cancel odrer #W2378156, wrong adress",
    "is this one still in stock? https://shop.example.com/kitchen/kettle-300?utm=mail",
    "I won your raffle, where do I redeem the voucher WIN-2291?",
    "Got charged twice, 59.90 each. Call me on 07700 900456",
    "Is the email about my suspended account from you or is it phishing?",
    "your ad says 50% off everything but checkout shows full price",
    "my free gift is missing from order 77120",
    "Congratulations on the new shop! Do you deliver to Leeds?",
    "I want to transfer my booking 3RK2T9 to my wife",
    "URGENT: stop order 88412 please, it is going to the old address",
    "you guys suck. just tell me when it arrives",
    "1Z999AA10123456784",
]

SPAM = [
    "CONGRATULATIONS!!! You have been selected for a FREE iPhone, claim now http://win.example",
    "Earn $3,000 a week from home, sign up today at www.cash.example",
    "We can get your website on page one of Google, reply for a free SEO audit",
    "Hot singles near you are waiting, text HOT to 80088, 1.50 per msg, 18+",
    "Double your bitcoin in 24 hours, guaranteed returns, contact us on telegram",
    "I am the widow of a late minister, contact me kindly with your bank details for 9 million USD",
    "Cheap viagra and cialis online, no prescription, order now http://pills.example",
    "i know where you live and i will kill you",
]


@pytest.fixture(scope="module")
def router():
    return Router.auto()


@pytest.mark.parametrize("text", HARMLESS)
def test_lets_terse_angry_and_misspelt_customers_in(router, text):
    assert router.admit(text, first=True).allowed
    assert router.admit(text, first=False).allowed


@pytest.mark.parametrize("text", SPAM)
def test_blocks_spam_and_threats(router, text):
    verdict = router.admit(text, first=True)
    assert not verdict.allowed
    assert verdict.kind == "spam"
    assert verdict.reason


def test_states_the_rate_of_false_alarms_that_its_examples_prove(router):
    spam = router.spam
    assert spam.harmless == sum(row.label != "spam" for row in seeds())
    assert spam.bound <= 0.01
    assert spam.recall > 0.5


def test_refuses_a_message_that_is_empty_or_too_large(router):
    assert router.admit("x" * 1_000_000).kind == "too-large"
    assert router.admit(" \n").kind == "empty"


@pytest.mark.parametrize(
    ("text", "tier"),
    [
        ("Where is my order?", "student"),
        ("yes please, go ahead", "student"),
        ("Write a poem about a lonely parcel", "standard"),
        ("Prove that the square root of 3 is irrational", "flagship"),
        (
            "Refactor the session store to use Redis, keep the interface and add tests for expiry",
            "flagship",
        ),
    ],
)
def test_picks_the_tier_by_the_kind_of_request(router, text, tier):
    decision = router.route(Step(text), TIERS)
    assert decision.tier == tier
    assert decision.reason


def test_gives_probabilities_that_add_up(router):
    decision = router.route(Step("My parcel is late"), TIERS)
    assert decision.stage == "classifier"
    assert sum(decision.probabilities.values()) == pytest.approx(1)


def test_keeps_the_tier_within_a_turn(router):
    text = "Please look up my order 1048 and tell me where it is"
    first = router.route(Step(text, step=0), TIERS)
    later = router.route(Step(text, step=3, after="tool", prompt_tokens=9000), TIERS)
    assert later.tier == first.tier


def priced(**warm):
    prices = TierPrices(1, 5, 0.1, 1.25), TierPrices(2, 10, 0.2, 2.5), TierPrices(5, 25, 0.5, 6.25)
    return [
        TierFacts(t.name, t.model, t.rank, p, warm.get(t.name, 0))
        for t, p in zip(TIERS, prices, strict=True)
    ]


def test_prices_keep_a_warm_session_on_its_tier_but_never_below_the_bar(router):
    step = Step("Where is my order?", prompt_tokens=200_000)
    short = Router(router.rules, router.classifier, spam=router.spam, outlook=Outlook(steps=1))
    assert short.route(step, priced()).tier == "student"
    warm = short.route(step, priced(flagship=200_000))
    assert warm.tier == "flagship"
    assert "student $" in warm.reason
    assert router.route(step, priced(flagship=200_000)).tier == "student"
    hard = Step("Refactor the session store to use Redis, keep the interface and add tests")
    assert short.route(hard, priced(student=200_000)).tier == "flagship"


def test_goes_up_after_a_failure_and_ends_with_an_error(router):
    failed = [Failure("arguments", "order_id: missing", "student")]
    decision = router.route(Step("hi", failures=tuple(failed)), TIERS)
    assert (decision.tier, decision.stage) == ("standard", "escalation")
    assert "order_id: missing" in decision.reason
    failed.append(Failure("not_empty", "the answer is empty", "flagship"))
    with pytest.raises(TurnError, match=r"every tier failed.*not_empty"):
        router.route(Step("hi", failures=tuple(failed)), TIERS)


def test_leaves_out_a_tier_that_is_not_available(router):
    tiers = (TierFacts("student", "m", 0, available=False), *TIERS[1:])
    assert router.route(Step("hello"), tiers).tier == "standard"
    nothing = tuple(TierFacts(t.name, t.model, t.rank, available=False) for t in TIERS)
    assert router.route(Step("hello"), nothing).tier == "flagship"


def test_takes_the_capable_tier_where_no_stage_can_decide():
    decision = Router().route(Step("Where is it?"), TIERS)
    assert (decision.tier, decision.stage) == ("flagship", "fallback")


def test_works_with_a_single_tier(router):
    assert router.route(Step("Prove it by induction, the formula"), TIERS[:1]).tier == "student"


def test_refuses_tiers_that_make_no_sense(router):
    with pytest.raises(ConfigError, match="no tier"):
        router.route(Step("hi"), ())
    with pytest.raises(ConfigError, match="two tiers are named 'student'"):
        router.route(Step("hi"), (TIERS[0], TIERS[0]))


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ([], "no rows"),
        ([Example("a", "simple"), Example("b", "simple")], "one class only"),
        ([Example("a", "simple"), Example("b", "banana")], "kind 'banana'"),
        ([Example("a", "simple"), Example("b", "tool")], "too few rows"),
        (
            [Example("a", "simple"), Example("b", "spam"), Example("c", "tool")] * 2,
            "cannot prove a false-alarm rate",
        ),
    ],
)
def test_refuses_examples_that_cannot_be_learned_from(examples, message):
    with pytest.raises(ConfigError, match=message):
        Router.train(examples)


def test_decides_the_same_after_saving_and_loading(router, tmp_path):
    path = tmp_path / "deep" / "router.skops"
    router.save(path)
    loaded = Router.load(path)
    for text in (*HARMLESS, *SPAM):
        assert loaded.admit(text) == router.admit(text)
        assert loaded.route(Step(text), TIERS) == router.route(Step(text), TIERS)
    assert [p.name for p in path.parent.iterdir()] == ["router.skops"]


def test_refuses_a_file_that_is_foreign_tampered_or_missing(router, tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        Router.load(tmp_path / "nowhere.skops")
    (tmp_path / "text.skops").write_text("hello")
    with pytest.raises(ConfigError, match="not a router file"):
        Router.load(tmp_path / "text.skops")
    with zipfile.ZipFile(tmp_path / "zip.skops", "w") as archive:
        archive.writestr("schema.json", "{}")
    with pytest.raises(ConfigError, match="not a router file"):
        Router.load(tmp_path / "zip.skops")
    path = tmp_path / "router.skops"
    router.save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ConfigError, match="not a router file"):
        Router.load(path)


def test_refuses_a_file_with_types_that_are_not_on_the_list(tmp_path):
    import skops.io
    from sklearn.preprocessing import FunctionTransformer

    path = tmp_path / "function.skops"
    skops.io.dump({"format": "agentmesh-router", "run": FunctionTransformer(Router.admit)}, path)
    with pytest.raises(ConfigError, match="it holds the type"):
        Router.load(path)
    skops.io.dump({"weights": [1, 2]}, path)
    with pytest.raises(ConfigError, match="not written by"):
        Router.load(path)
    skops.io.dump({"format": "agentmesh-router", "format_version": 1, "rules": ""}, path)
    with pytest.raises(ConfigError, match="incomplete"):
        Router.load(path)


def test_refuses_settings_out_of_range():
    with pytest.raises(ConfigError, match="bar"):
        Router(bar=1.5)
    with pytest.raises(ConfigError, match="need"):
        Router(need={"complex": 2.0})
    with pytest.raises(ConfigError, match="max_chars"):
        Router(max_chars=0)


def test_importing_and_matching_rules_loads_no_heavy_library():
    code = (
        "import sys; from agentmesh.routing import Router, default_checks; default_checks();"
        "Router().admit('hello');"
        "heavy = {'sklearn', 'numpy', 'scipy', 'skops', 'langgraph', 'langchain_core'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_few_trigger_words_move_the_router_little_wherever_they_stand(router):
    plain = [row.text for row in seeds() if row.label == "simple" and len(row.text.split()) >= 10]
    words = ["and", "plan", "results", "including", "works", "invalidation"]
    front = [f"{' '.join(words)} {text}" for text in plain]
    around = [f"{' '.join(words[:3])} {text} {' '.join(words[3:])}" for text in plain]

    def share(router, texts):
        return sum(router.route(Step(t), TIERS).tier == "flagship" for t in texts) / len(texts)

    naive = router.changed(steady=False)
    assert share(naive, front) - share(naive, plain) > 0.5
    for pushed in (front, around):
        assert share(router, pushed) - share(router, plain) <= 0.1


def test_a_request_that_is_hard_in_more_than_a_few_words_still_goes_up(router):
    hard = "Refactor the session store to use Redis, keep the interface and add tests for expiry"
    assert router.route(Step(hard), TIERS).tier == "flagship"
    texts = [row.text for row in seeds() if row.label in ("complex", "reasoning")]
    naive = router.changed(steady=False)
    up = [t for t in texts if naive.route(Step(t), TIERS).tier == "flagship"]
    kept = sum(router.route(Step(t), TIERS).tier == "flagship" for t in up)
    assert kept > 0.75 * len(up)
    assert router.chances(Step(hard), TIERS)["student"] < router.bar
