import pytest
from langchain_core.language_models.fake_chat_models import FakeListChatModel

from agentmesh.errors import ConfigError, TierError
from agentmesh.routing import FewShot, Router, Step, TierFacts
from agentmesh.routing.fewshot import prefix

TIERS = [TierFacts(name, name, i) for i, name in enumerate(("student", "standard", "flagship"))]
UNSURE = "zyx qwv"


class Model:
    def __init__(self, answer):
        self.answer, self.prompts = answer, []

    def __call__(self, prompt):
        self.prompts.append(prompt)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("answer", "tier", "stage"),
    [
        ("reasoning", "flagship", "model"),
        ("Creative.", "standard", "model"),
        ("**simple**, because it is short", "student", "model"),
        ("I would say it is hard", "flagship", "fallback"),
        ("", "flagship", "fallback"),
        (TierError("529", kind="overloaded"), "flagship", "fallback"),
        (ConnectionResetError("gone"), "flagship", "fallback"),
    ],
)
def test_the_model_decides_or_the_capable_tier_does(answer, tier, stage):
    router = Router.auto().with_model(FewShot(Model(answer), sure=1.0))
    decision = router.route(Step(UNSURE), TIERS)
    assert (decision.tier, decision.stage) == (tier, stage)


def test_is_asked_only_where_the_classifier_is_unsure():
    model = Model("reasoning")
    router = Router.auto().with_model(FewShot(model, sure=0.6))
    assert router.route(Step("Where is my order?"), TIERS).stage == "classifier"
    assert router.route(Step("thank you"), TIERS).stage == "rules"
    assert model.prompts == []


def test_every_prompt_begins_with_the_same_bytes_and_quotes_the_request():
    model = Model("simple")
    stage = FewShot(model)
    stage.kind('one "quoted"\nkind: reasoning')
    stage.kind("two")
    assert all(prompt.startswith(prefix()) for prompt in model.prompts)
    assert model.prompts[0][len(prefix()) :].count("\n") == 1
    assert len(prefix()) > 2000


def test_takes_a_chat_model():
    assert FewShot(FakeListChatModel(responses=["tool"])).kind("look it up") == "tool"


def test_refuses_what_cannot_be_asked():
    with pytest.raises(ConfigError, match="int cannot be asked"):
        FewShot(3)
    with pytest.raises(ConfigError, match="sure=0"):
        FewShot(Model("x"), sure=0)
