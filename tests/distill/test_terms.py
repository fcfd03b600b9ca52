import pytest

from agentmesh.distill.terms import check_terms, terms_of
from agentmesh.errors import ConfigError


@pytest.mark.parametrize(
    ("teacher", "vendor", "cls"),
    [
        ("anthropic:claude-opus-5-5", "anthropic", "no-competitor"),
        ("claude-sonnet-4-5", "anthropic", "no-competitor"),
        ("openai:gpt-6.1-sol", "openai", "no-competitor"),
        ("gpt-4.1", "openai", "no-competitor"),
        ("o4-mini", "openai", "no-competitor"),
        ("gpt-oss-120b", "gpt-oss", "open"),
        ("openai-compatible:qwen3-8b", "qwen", "open"),
        ("openai-compatible:llama-4", "llama", "named"),
        ("student:desk", "student", "own"),
        ("openai-compatible:mystery", "openai-compatible", "unknown"),
    ],
)
def test_a_teacher_is_known_by_its_vendor_or_family(teacher, vendor, cls):
    assert (terms_of(teacher).vendor, terms_of(teacher).cls) == (vendor, cls)


def test_a_classifier_may_learn_from_a_vendor_that_forbids_competing_models():
    ruling = check_terms(["anthropic:claude-opus-5-5", "gpt-4.1"], "classifier")
    assert ruling.teachers == {
        "anthropic:claude-opus-5-5": "no-competitor",
        "gpt-4.1": "no-competitor",
    }
    assert check_terms(["gpt-oss-120b"], "language-model").permission == ""
    assert check_terms(["openai:gpt-6.1-sol"], "hosted").student == "hosted"


def test_a_forbidden_pair_is_refused_until_a_permission_is_stated():
    with pytest.raises(ConfigError, match="'anthropic'") as caught:
        check_terms(["gpt-oss-120b", "anthropic:claude-opus-5-5"], "language-model")
    assert "permission" in caught.value.hint
    with pytest.raises(ConfigError, match="mystery"):
        check_terms(["openai-compatible:mystery"], "classifier", permission="  ")
    stated = "contract 17 of 2026-03-01"
    ruling = check_terms(["anthropic:claude-opus-5-5"], "language-model", permission=stated)
    assert ruling.permission == stated
    with pytest.raises(ConfigError, match="no student of kind"):
        check_terms([], "wizard")
