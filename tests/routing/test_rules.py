import pytest

from agentmesh.errors import ConfigError
from agentmesh.routing import Rules, seeds

GOOD = """
[[rule]]
name = "invoice"
kind = "simple"
any = ['invoice']
example = "my invoice"
"""


def test_no_blocking_rule_matches_a_harmless_example():
    rules = Rules.shipped()
    hits = [(row.text, rules.match(row.text, "block")) for row in seeds() if row.label != "spam"]
    assert [hit for hit in hits if hit[1]] == []


def test_deciding_rules_agree_with_the_examples():
    rules = Rules.shipped()
    wrong = [
        (row.text, rule.name)
        for row in seeds()
        if (rule := rules.match(row.text)) and rule.kind != row.label
    ]
    assert wrong == []


def test_reads_a_file_of_ones_own(tmp_path):
    path = tmp_path / "rules.toml"
    path.write_text(GOOD)
    assert Rules.from_file(path).match("Where is my INVOICE").name == "invoice"
    assert Rules.from_file(path).match("hello") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("any = ['invoice']", "any = ['receipt']"), "does not match its example"),
        (("any = ['invoice']", "any = ['(']"), "not a regular expression"),
        (("any = ['invoice']", ""), "no pattern"),
        (("any = ['invoice']", "any = 'invoice'"), "list of regular expressions"),
        (('kind = "simple"', 'kind = "easy"'), "kind 'easy'"),
        (('kind = "simple"', 'kind = "simple"\nuse = "block"'), "only spam|use 'block'"),
        (('kind = "simple"', 'kind = "simple"\nuse = "maybe"'), "use 'maybe'"),
        (('kind = "simple"', 'kind = "simple"\ntier = "middle"'), "tier 'middle'"),
        (('kind = "simple"', 'kind = "simple"\nwords = 3'), "unknown key 'words'"),
        (('kind = "simple"', 'kind = "simple"\nmin_chars = 9\nmax_chars = 3'), "never matches"),
        (('kind = "simple"', 'kind = "simple"\nmax_chars = -1'), "max_chars=-1"),
        (('name = "invoice"', ""), "no name"),
        (('example = "my invoice"', ""), "does not match its example None"),
        (('"my invoice"', '"my invoice"\ncounterexample = "an invoice"'), "its counterexample"),
        (("[[rule]]", "[rule"), "not TOML"),
        (("[[rule]]", "x = 1\n[[rule]]"), "only \\[\\[rule\\]\\]"),
    ],
)
def test_names_the_mistake_in_a_rule(change, message):
    with pytest.raises(ConfigError, match=message) as caught:
        Rules.parse(GOOD.replace(*change))
    assert caught.value.hint


def test_refuses_two_rules_of_one_name(tmp_path):
    with pytest.raises(ConfigError, match="two rules are named 'invoice'"):
        Rules.parse(GOOD + GOOD)
    with pytest.raises(ConfigError, match="cannot be read"):
        Rules.from_file(tmp_path / "none.toml")
