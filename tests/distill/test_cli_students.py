"""Every kind of student is trained from the command line."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec

import pytest

from agentmesh.distill import Register, StudentModel
from agentmesh.distill import hosted as endpoint
from agentmesh.emulator.tuning import TuningFaults
from agentmesh.memory import Memory
from agentmesh.testing import echo, emulator

ASKS = ("where is order {}", "track {} please", "is {} on its way")
HOURS = ("when do you open", "opening hours please", "are you open today", "do you close early")
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content or '' }}"
    "{% for c in m.tool_calls or [] %}[{{ c.function.name }} {{ c.function.arguments }}]{% endfor %}"
    "<end>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture
def db(desk, tmp_path):
    """A memory in which the same questions come again and again, and a classifier is live."""
    url = f"sqlite:///{tmp_path / 'desk.db'}"
    memory = Memory(url)
    said = [ask.format(order) for ask in ASKS for order in ("W1", "W2")] + list(HOURS)
    for i, text in enumerate(said * 6):
        order = re.search(r"W\d", text)
        answers = [desk.text("We open at 9.")]
        if order:
            arguments = json.dumps({"order": order[0]})
            answers = [desk.call(arguments, id=f"c{i}"), desk.text(f"Order {order[0]} is shipped.")]
        desk.ask(memory, f"s{i}", text, answers, user=f"u{i}")
    memory.close()
    return url


@pytest.fixture
def live(db, tmp_path, distill):
    """The classifier that is live, which nothing that fails may touch."""
    distill("run", tmp_path / "live", "--db", db, "--name", "desk", "--no-near")
    for _ in range(2):
        distill("promote", "desk", "--db", db)

    def unharmed():
        memory = Memory(db)
        versions = [(v.version, v.state) for v in Register(memory).versions("desk")]
        answer = StudentModel.live(memory, "desk").invoke("when do you open").content
        memory.close()
        return versions == [(1, "live")] and answer == "We open at 9."

    assert unharmed()
    return unharmed


def hosted(db, server, out, *more):
    return (
        *("train", out, "--db", db, "--name", "desk", "--student", "hosted", "--no-near"),
        *("--base", "gpt-4.1-mini", "--base-url", server.openai_url, "--poll", "0"),
        *("--agreement", "0.8", "--permission", "contract 17", *more),
    )


def test_a_hosted_student_is_trained_at_an_endpoint(db, tmp_path, distill, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    with emulator(echo) as server:
        told = distill(*hosted(db, server, tmp_path / "out")).out
        assert "loss 0.50 -> " in re.sub(r"(\.\d\d)\d", r"\1", told)
        assert "Answers to calls that it did not learn" in told
        memory = Memory(db)
        version = Register(memory).get("desk")
        memory.close()
        assert version.facts["trained"]["model"].startswith("ft:gpt-4.1-mini:")
        assert version.facts["measured"]["success"] == version.facts["measured"]["answered"] == 1.0
        model = StudentModel.load(version.path)
        assert model.invoke("unheard of").response_metadata["stop_reason"] == "stop"
    assert "k" not in (tmp_path / "out" / "desk-1.json").read_text().split('"')
    assert not list((tmp_path / "out").glob("*.job.json"))


def test_an_endpoint_that_loses_the_job_leaves_the_live_student_alone(
    db, live, tmp_path, distill, monkeypatch
):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    with emulator(echo, tuning_faults=TuningFaults(lost=2)) as server:
        told = distill(*hosted(db, server, tmp_path / "out"), status=2)
        assert "no longer knows the job 'ftjob-" in told.err
        assert "what is live goes on" in told.err
        assert told.err.count("\n") == 1
    assert live()
    assert sorted(p.suffix for p in (tmp_path / "out").iterdir()) == [".json", ".jsonl"]
    with emulator(echo) as server:  # the endpoint lost it, so that it begins anew
        assert json.loads(distill(*hosted(db, server, tmp_path / "out", "--json")).out)


def test_a_killed_training_goes_on_with_the_job_that_it_paid_for(
    db, tmp_path, distill, monkeypatch
):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    out = tmp_path / "out"
    with emulator(echo) as server:
        waiting = [*map(str, hosted(db, server, out))]
        waiting[waiting.index("--poll") + 1] = "600"
        with subprocess.Popen([sys.executable, "-m", "agentmesh", "distill", *waiting]) as child:
            job = _begun(out / "desk-1.job.json", child)
            os.kill(child.pid, signal.SIGKILL)
        told = json.loads(distill(*hosted(db, server, out, "--json")).out)
        with endpoint._client(server.openai_url, "k") as api:
            assert [j.id for j in api.fine_tuning.jobs.list()] == [job]
        assert told["version"]["facts"]["trained"]["model"]


def _begun(file, child):
    until = time.monotonic() + 60
    while time.monotonic() < until and child.poll() is None:
        if file.exists() and (job := json.loads(file.read_text())["id"]):
            return job
        time.sleep(0.05)
    raise AssertionError("the training did not begin")


def test_what_a_kind_needs_is_told_before_it_is_trained(db, live, tmp_path, distill, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    train = ("train", tmp_path / "out", "--db", db, "--student")
    assert "no student 'wizard'" in distill(*train, "wizard", status=2).err
    assert "needs a base model" in distill(*train, "hosted", status=2).err
    if find_spec("trl") is None:
        told = distill(*train, "language-model", "--base", "qwen3-8b", status=2).err
        assert "agentmesh-langgraph[finetune]" in told
    told = distill(*train, "hosted", "--base", "gpt-4.1-mini", status=2).err
    assert "the terms of 'anthropic' do not let" in told
    stated = ("hosted", "--base", "m", "--permission", "x", "--no-near", "--agreement")
    told = distill(*train, *stated, "0.99", status=2).err
    assert "calls to set the threshold on, 100 are needed" in told
    assert "no API key is given" in distill(*train, *stated, "0.8", status=2).err
    assert live()


@pytest.mark.filterwarnings("default")  # what Transformers and TRL say is not ours
@pytest.mark.parametrize(("method", "epochs"), [("full", 30), ("lora", 2), ("prefix", 2)])
def test_a_language_model_is_trained_in_this_process(db, live, tmp_path, distill, method, epochs):
    pytest.importorskip("trl")
    base, out = random_base(tmp_path / "base"), tmp_path / "out"
    train = (
        *("train", out, "--db", db, "--name", "desk", "--student", "language-model"),
        *("--method", method, "--epochs", epochs, "--rate", "3e-3", "--no-near"),
        *("--agreement", "0.8", "--permission", "contract 17"),
    )
    assert "cannot be loaded" in distill(*train, "--base", tmp_path / "none", status=2).err
    told = distill(*train, "--base", base).out
    assert re.search(r"loss \d+\.\d+ -> \d+\.\d+  [▁-█]+", told)
    assert "Answers to calls that it did not learn" in told
    assert ("vllm serve" in told) == ("ollama create" in told) == (method != "prefix")
    memory = Memory(db)
    version = Register(memory).versions("desk")[-1]
    memory.close()
    first, last = version.facts["trained"]["losses"]
    assert last < first
    if method == "full":
        assert version.facts["measured"]["answered"] >= 0.9
        assert version.facts["measured"]["success"] >= 0.95
        assert StudentModel.load(version.path).student.kind == "language-model"
    assert sorted(p.name for p in out.iterdir()) == ["desk-2", "desk-2.split.json"]


def random_base(folder):
    """A model of random weights that reads single words, saved as any base model is."""
    import torch
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    pattern = r"<end>|\w+|\s|[^\w\s]"
    texts = [*ASKS, *HOURS, "W1 W2 You are the support desk. It Order is shipped. We open at 9."]
    texts += ["system user assistant tool order_status", *map(chr, range(32, 127)), "\n"]
    words = [w for text in texts for w in re.findall(r"\w+|\s|[^\w\s]", text)]
    vocabulary = {w: i for i, w in enumerate(dict.fromkeys(["<end>", "<unk>", *words]))}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")
    inner.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<end>", pad_token="<end>", unk_token="<unk>"
    )
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    torch.set_num_threads(1)
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4}
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = LlamaConfig(
        vocab_size=len(tokenizer), initializer_range=64**-0.5, **shape, **heads, **ends
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
