"""What every kind of student must do alike: the same tests over all three."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agentmesh import Agent, Tier
from agentmesh.distill import (
    Example,
    LocalStudent,
    Register,
    StudentModel,
    agree,
    read_traces,
    select,
    to_examples,
)
from agentmesh.distill.calibrate import calibrate
from agentmesh.distill.students import load
from agentmesh.distill.terms import Ruling
from agentmesh.errors import ConfigError, CorruptError
from agentmesh.memory import Memory
from agentmesh.routing import Router, Rules
from agentmesh.testing import Answer, emulator
from agentmesh.tools import tool

KINDS = ("classifier", "language-model", "lora", "prefix", "hosted")
"""The three kinds of student, and both adapters of the second."""
ADAPTER = "adapter_model.safetensors"
ORDERS = ("W1", "W2")
ASKS = ("where is order {}", "track {} please", "is {} on its way")
HOURS = ("when do you open", "opening hours please", "are you open today", "do you close early")
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content or '' }}"
    "{% for c in m.tool_calls or [] %}[{{ c.function.name }} {{ c.function.arguments }}]{% endfor %}"
    "<end>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
pytestmark = pytest.mark.filterwarnings("default")  # what Transformers and TRL say is not ours


@tool
def order_status(order: str) -> str:
    """Look up an order.

    Args:
        order: Its number.
    """
    return json.dumps({"order": order, "state": "shipped"})


def flagship(request):
    if request.results:
        return Answer(f"Order {json.loads(request.results[0])['order']} is shipped.")
    found = re.search(r"W\d", request.user_text)
    if found is None:
        return Answer("We open at 9.")
    return Answer(calls=[("order_status", {"order": found[0]})])


@dataclass
class Made:
    """A trained student, where it is saved, the base of an adapter, and the calls it learned from."""

    student: Any
    path: Path
    base: Any
    traces: list
    memory: Memory
    server: Any

    def load(self):
        return load(self.path, base=self.base)

    def agent(self):
        tiers = [
            Tier("student", "student:desk", extra={"base": self.base}),
            Tier("flagship", "anthropic:claude-opus-5-5", self.server.url, "k"),
        ]
        router = Router(Rules(), Router.auto().classifier)
        return Agent(
            "desk",
            "You are a desk.",
            tools=[order_status],
            tiers=tiers,
            memory=self.memory,
            router=router,
            compaction=None,
        )


def texts():
    return [*(ask.format(order) for ask in ASKS for order in ORDERS), *HOURS] * 2


@pytest.fixture(scope="module", params=KINDS)
def made(request, tmp_path_factory):
    if request.param in ("language-model", "lora", "prefix"):
        pytest.importorskip("trl")
        torch = pytest.importorskip("torch")
        torch.set_num_threads(1)  # workers share the cores
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch, emulator(flagship) as server:
        patch.setenv("OPENAI_API_KEY", "k")
        memory = Memory("sqlite://")
        one = Made(None, folder, None, [], memory, server)
        agent = one.agent()
        for i, text in enumerate(texts()):
            agent.invoke(text, session=f"s{i}", user=f"u{i}")
        kept = [c for c in select(lambda: read_traces(memory)) if c.kept]
        one.traces = [c.trace for c in kept]
        one.student, one.path, one.base = TRAIN[request.param](kept, folder, server)
        yield one
        memory.close()


def _classifier(kept, folder, server):
    student = LocalStudent.fit([c.trace for c in kept], agreement=0.8)
    student.save(folder / "desk.skops")
    return student, folder / "desk.skops", None


def _hosted(kept, folder, server):
    from agentmesh.distill.hosted import tune

    path = folder / "desk.json"
    terms = Ruling("hosted", {"rules": "own"})
    student = tune(
        to_examples(kept),
        path,
        model="gpt-4.1-mini",
        terms=terms,
        base_url=server.openai_url,
        sleep=lambda s: None,
    )
    return student, path, None


def _language(kept, folder, server):
    """All weights of a model that knows nothing."""
    examples = list(to_examples(kept))
    tokenizer = words_of([json.dumps(m) for e in examples for m in e.messages] + [TEMPLATE])
    made = taught(tiny(tokenizer), tokenizer, examples, folder / "desk", epochs=30, rate=3e-3)
    assert made.curve[0] == "█"
    assert "vllm serve" in made.serve["vllm"]
    assert (made.path / "Modelfile").read_text() == "FROM .\n"
    return student_of(made, tokenizer)


def _adapter(method, **recipe):
    """An adapter of a model that gives yesterday's answers."""

    def train(kept, folder, server):
        from transformers import AutoModelForCausalLM

        examples = list(to_examples(kept))
        old = [yesterdays(example) for example in examples]
        texts = [json.dumps(m) for e in (*examples, *old) for m in e.messages]
        tokenizer = words_of([*texts, TEMPLATE])
        base = taught(tiny(tokenizer), tokenizer, old, folder / "base", epochs=30, rate=3e-3).path
        model = AutoModelForCausalLM.from_pretrained(base)
        out = folder / "desk"
        made = taught(model, tokenizer, examples, out, method, base=str(base), **recipe)
        return student_of(made, tokenizer)

    return train


def taught(model, tokenizer, examples, out, method="full", *, base="", **recipe):
    from agentmesh.distill import finetune

    made = finetune.train(
        model,
        tokenizer,
        examples,
        out,
        recipe=finetune.Recipe(method, **recipe),
        terms=Ruling("language-model", {"rules": "own"}),
        base=base,
    )
    assert made.losses[-1] < 0.1 * made.losses[0]
    return made


def student_of(made, tokenizer):
    from agentmesh.distill.language import LanguageStudent

    student = LanguageStudent(made.model, tokenizer, made.path, max_tokens=40)
    student.save(made.path)
    return student, made.path, None


def yesterdays(example):
    """The same questions, and what the desk said before its hours and states changed."""
    text = json.dumps(example.messages)
    text = text.replace("open at 9", "close early").replace("is shipped", "is late")
    return Example(tuple(json.loads(text)), example.tools, example.trained)


TRAIN = {
    "classifier": _classifier,
    "language-model": _language,
    "lora": _adapter("lora", epochs=12, rate=3e-3),
    "prefix": _adapter("prefix", epochs=24, rate=0.1),
    "hosted": _hosted,
}


def words_of(texts):
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pattern = r"<end>|\w+|\s|[^\w\s]"
    words = dict.fromkeys(w for text in texts for w in re.findall(pattern, text))
    rest = [w for w in words if w != "<end>"] + ["shipped", "assistant", "\n"]
    vocabulary = {w: i for i, w in enumerate(["<end>", "<unk>", *dict.fromkeys(rest)])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")
    inner.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<end>", pad_token="<end>", unk_token="<unk>"
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def tiny(tokenizer):
    """A model of two small layers with random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            initializer_range=64**-0.5,  # the usual 0.02 is of models with thousands of dimensions
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def test_it_answers_as_its_teacher_did_calls_and_words(made):
    guesses = [made.student.answer(t.prompt, t.tools) for t in made.traces]
    good = [
        g.answer is not None and agree(t.answer, g.answer)
        for t, g in zip(made.traces, guesses, strict=True)
    ]
    assert sum(good) / len(good) >= 0.9
    done = {t.action for t, ok in zip(made.traces, good, strict=True) if ok}
    assert done == {"say", "order_status"}
    assert all(0 <= g.confidence <= 1 for g in guesses)


def test_what_is_saved_is_what_is_loaded(made):
    again = made.load()
    assert again.kind == made.student.kind
    assert again.threshold == made.student.threshold
    for trace in made.traces[:4]:
        mine, other = (s.answer(trace.prompt, trace.tools) for s in (made.student, again))
        assert (mine.answer is None) == (other.answer is None)
        assert mine.answer is None or agree(mine.answer, other.answer)


def test_it_abstains_below_its_threshold_and_is_calibrated_on_held_out_calls(made):
    student = made.load()
    found = calibrate(student, made.traces, agreement=0.8)
    assert 0 <= found <= 1
    assert student.threshold == found
    student.threshold = 1.01
    if student.kind != "hosted":  # the endpoint tells no probabilities: it is taken at its word
        guess = student.answer(made.traces[0].prompt, made.traces[0].tools)
        assert guess.answer is None
        assert "is asked for" in guess.reason
    with pytest.raises(ConfigError, match="0 calls"):
        calibrate(student, [])


def test_it_serves_as_a_tier_tool_calls_included(made):
    register = Register(made.memory)
    version = register.add("desk", made.path, measured={"success": 0.95, "baseline": 0.9})
    for _ in range(3):
        register.promote("desk", version.version)
    agent = made.agent()
    replies = {
        text: agent.invoke(text, session=f"{made.student.kind}{i}", user=f"v{i}")
        for i, text in enumerate(("where is order W2", "when do you open"))
    }
    told = [reply.text for reply in replies.values()]
    assert told == ["Order W2 is shipped.", "We open at 9."]
    tiers = [step.tier for reply in replies.values() for step in reply.steps]
    assert tiers == ["student"] * 3
    model = StudentModel.load(made.path) if made.base is None else None
    assert model is None or model.invoke("when do you open") is not None


class Heard:
    """A student that keeps the prompts it was given."""

    def __init__(self, student):
        self.student, self.kind, self.prompts = student, student.kind, []

    def answer(self, messages, tools=()):
        self.prompts.append((list(messages), list(tools)))
        return self.student.answer(messages, tools)

    def save(self, path):
        self.student.save(path)


def test_it_is_served_with_the_very_prompts_that_it_learned_from(made):
    heard = Heard(made.student)
    tier = Tier("student", StudentModel(student=heard, name="desk"))
    agent = Agent(
        "desk",
        "You are a desk.",
        tools=[order_status],
        tiers=[tier],
        memory=made.memory,
        router=Router(Rules(), Router.auto().classifier),
        compaction=None,
    )
    agent.invoke("where is order W2", session=f"heard-{made.student.kind}", user="h")
    first = next(t for t in made.traces if t.asked == "where is order W2")
    messages, tools = heard.prompts[0]
    assert json.dumps([messages, tools]) == json.dumps([list(first.prompt), list(first.tools)])
    if made.student.kind == "language-model":
        from agentmesh.distill import finetune

        tokenizer = made.student._tokenizer
        example = Example((*first.prompt, first.answer), first.tools, (len(first.prompt),))
        rows = finetune.tokenise([example], tokenizer, finetune.Recipe())
        learned = [i for i, label in zip(rows.ids[0], rows.labels[0], strict=True) if label < 0]
        text = finetune.prompt_of(messages, tools, tokenizer)
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == learned
        assert made.student.answer(messages, tools).input_tokens == len(learned)


def test_a_damaged_file_is_told_and_the_live_one_is_left_alone(made, tmp_path):
    import shutil

    copy = tmp_path / made.path.name
    (shutil.copytree if made.path.is_dir() else shutil.copy)(made.path, copy)
    weights = "model.safetensors" if (copy / "model.safetensors").exists() else ADAPTER
    files = [copy] if copy.is_file() else [copy / weights, copy / "student.json"]
    for file in files:
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(CorruptError):
            load(copy, base=made.base)
        file.write_bytes(whole)
    assert made.load().kind == made.student.kind
    with pytest.raises(ConfigError):
        load(tmp_path / f"none{made.path.suffix}")


def test_adapters_notice_another_base_model(tmp_path, made):
    """An adapter has a base of its own; a hosted model goes with its endpoint's."""
    if made.student.kind == "classifier":
        state = json.dumps({"format": "other"})
        (tmp_path / "desk.skops").write_text(state)
        with pytest.raises(CorruptError, match="not a student"):
            load(tmp_path / "desk.skops")
    elif made.student.kind == "hosted":
        from agentmesh.distill.hosted import HostedStudent
        from agentmesh.errors import TierError

        with emulator({"other": flagship}) as server:
            gone = HostedStudent("ft:gone", base="m", base_url=server.openai_url, api_key="k")
            with pytest.raises(TierError) as caught:
                gone.answer(made.traces[0].prompt, made.traces[0].tools)
            assert (caught.value.kind, caught.value.retryable) == ("not_found", False)
    else:
        from agentmesh.distill import finetune
        from agentmesh.distill.language import LanguageStudent

        tokenizer = made.student._tokenizer
        examples = list(to_examples(select(lambda: made.traces)))[:4]
        terms = Ruling("language-model", {"rules": "own"})
        out = finetune.train(
            tiny(tokenizer),
            tokenizer,
            examples,
            tmp_path / "adapter",
            recipe=finetune.Recipe("lora", epochs=1),
            terms=terms,
        ).path
        assert LanguageStudent.load(out, tiny(tokenizer)).kind == "language-model"
        changed = tiny(tokenizer)
        changed.model.norm.weight.data += 1
        with pytest.raises(CorruptError, match="not the one"):
            LanguageStudent.load(out, changed)
        with pytest.raises(ConfigError, match="needs its base model"):
            LanguageStudent.load(out)
