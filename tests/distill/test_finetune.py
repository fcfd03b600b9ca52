import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from agentmesh.distill import finetune
from agentmesh.distill.finetune import IGNORED, Recipe, card_of, serving, settings, tokenise
from agentmesh.distill.formats import Example
from agentmesh.distill.terms import Ruling
from agentmesh.errors import ConfigError, CorruptError

OWN = Ruling("language-model", {"rules:desk": "own"})
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content or '' }}"
    "{% for c in m.tool_calls or [] %}[{{ c.function.name }} {{ c.function.arguments }}]{% endfor %}"
    "<end>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


class Letters:
    """A tokenizer of single characters, `<end>` being one token; it renders as templates do."""

    eos_token, eos_token_id, chat_template = "<end>", 0, TEMPLATE

    def apply_chat_template(self, messages, tools, tokenize, add_generation_prompt=False):
        import jinja2

        env = jinja2.Environment(autoescape=False)  # prompts are no web page
        template = env.from_string(self.chat_template)
        return template.render(
            messages=messages, tools=tools, add_generation_prompt=add_generation_prompt
        )

    def __call__(self, text, add_special_tokens):
        parts = text.split("<end>")
        ids = [0 if i % 2 else part for i, part in enumerate("<end>".join(parts).split("<end>"))]
        out = []
        for i, part in enumerate(parts):
            out += [ord(c) for c in part] + ([0] if i < len(parts) - 1 else [])
        return {"input_ids": out if ids else []}


def example(n=0):
    messages = (
        {"role": "user", "content": f"Ask {n}"},
        {"role": "assistant", "content": "Bad."},
        {"role": "user", "content": "Again"},
        {"role": "assistant", "content": "Good."},
    )
    return Example(messages, (), (3,))


def test_the_loss_lies_on_the_learned_answer_and_its_end_alone():
    pytest.importorskip("jinja2")
    rows = tokenise([example()], Letters(), Recipe())
    (labels,) = rows.labels
    learned = [label for label in labels if label != IGNORED]
    assert learned == [*map(ord, "Good."), 0]
    assert (rows.learned_tokens, rows.longest) == (len(learned), len(labels))


def test_data_that_would_train_something_else_is_refused():
    pytest.importorskip("jinja2")
    with pytest.raises(ConfigError, match="no example"):
        tokenise([], Letters(), Recipe())
    with pytest.raises(ConfigError, match="tokens, 5 are allowed"):
        tokenise([example()], Letters(), Recipe(longest=5))
    with pytest.raises(ConfigError, match="no chat template"):
        tokenise([example()], SimpleNamespace(), Recipe())
    cut = Letters()
    cut.chat_template = TEMPLATE.replace("<end>", "")
    with pytest.raises(ConfigError, match="end of turn"):
        tokenise([example()], cut, Recipe())
    other = Letters()
    other.chat_template = "{{ messages | length }}" + TEMPLATE
    with pytest.raises(ConfigError, match="renders a prompt otherwise"):
        tokenise([example()], other, Recipe())


def test_settings_are_safe_for_each_method(tmp_path):
    rows = finetune.Rows([[1, 2]], [[IGNORED, 2]], 777, 1)
    for method in finetune.METHODS:
        found = settings(Recipe(method), rows, tmp_path)
        assert found["max_length"] == 777
        assert found["packing"] is False
        assert found["gradient_checkpointing"] is (method != "prefix")
    assert settings(Recipe("prefix"), rows, tmp_path)["learning_rate"] > 1e-3
    assert "--enable-lora" in serving("out", "lora", "qwen3-8b")["vllm"]
    assert serving("out", "prefix", "qwen3-8b") == {}
    with pytest.raises(ConfigError, match="no method 'magic'"):
        Recipe("magic")
    with pytest.raises(ConfigError, match="batch=0"):
        Recipe(batch=0)


def test_a_folder_without_a_student_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no student"):
        card_of(tmp_path)
    (tmp_path / "student.json").write_text("{")
    with pytest.raises(CorruptError, match="damaged"):
        card_of(tmp_path)


@pytest.fixture
def tiny():
    pytest.importorskip("trl")
    pytest.importorskip("peft")
    import torch

    torch.set_num_threads(1)  # workers share the cores
    return tiny_tokenizer(), tiny_model


def tiny_tokenizer():
    """A tokenizer of single characters."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<end>", "<unk>", *map(chr, range(32, 127))]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<end>", pad_token="<end>", unk_token="<unk>"
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def tiny_model(words=97, hidden=32):
    """A model of two layers with random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": hidden, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=words, eos_token_id=0, **shape, **heads))


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("method", finetune.METHODS)
def test_the_safe_settings_are_in_effect_where_the_model_trains(method, tiny, tmp_path):
    tokenizer, model = tiny
    examples = [example(n) for n in range(7)]
    rows = tokenise(examples, tokenizer, Recipe())
    base = model()
    base.gradient_checkpointing_enable()  # as some models come
    if method == "prefix":
        base.gradient_checkpointing_disable()
    trainer = finetune._trainer(
        base, tokenizer, rows, Recipe(method, batch=3), tmp_path / "out", None, "float32"
    )
    assert trainer.args.max_length == rows.longest
    assert trainer.args.gradient_checkpointing is (method != "prefix")
    seen = []
    for batch in trainer.get_train_dataloader():
        for ids, labels, mask in zip(
            batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True
        ):
            seen.append(ids[mask.bool()].tolist())
            said = tokenizer.decode(labels[labels != IGNORED])
            assert said.replace(" ", "") == "Good.<end>"
    assert sorted(seen) == sorted(rows.ids)  # every row, and whole
    trainer.train()
    assert trainer.model.is_gradient_checkpointing is (method != "prefix")


@pytest.mark.filterwarnings("default")
def test_a_prefix_is_trained_on_a_model_that_came_with_checkpointing(tiny, tmp_path):
    tokenizer, model = tiny
    base = model()
    base.gradient_checkpointing_enable()
    recipe = Recipe("prefix", epochs=1)
    made = finetune.train(base, tokenizer, [example()], tmp_path / "out", recipe=recipe, terms=OWN)
    assert made.losses


@pytest.mark.filterwarnings("default")
def test_rows_longer_than_the_model_reads_are_refused(tiny, tmp_path):
    tokenizer, model = tiny
    base = model()
    base.config.max_position_embeddings = 50
    with pytest.raises(ConfigError, match="the model has 50 positions"):
        finetune.train(base, tokenizer, [example()], tmp_path / "out", terms=OWN)
    assert list(tmp_path.iterdir()) == []


LIMITED = """
import resource, sys, warnings
warnings.simplefilter("ignore")
import torch
from pathlib import Path
from tests_finetune import OWN, example, tiny_model, tiny_tokenizer
from agentmesh.distill import finetune
from agentmesh.errors import ConfigError
limit, value, out = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
wide = {"words": 40_000, "hidden": 512} if limit == "RLIMIT_AS" else {}
tokenizer, model = tiny_tokenizer(), tiny_model(**wide)
def limited(step, steps, loss):
    more = value
    if limit == "RLIMIT_AS":
        with open("/proc/self/statm") as pages:
            more += int(pages.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(getattr(resource, limit), (more, more))
try:
    finetune.train(model, tokenizer, [example(n) for n in range(8)], out,
                   recipe=finetune.Recipe("full", epochs=2), terms=OWN, progress=limited)
except ConfigError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of a process, as Linux has them")
@pytest.mark.parametrize(
    ("limit", "value", "said"),
    [("RLIMIT_FSIZE", 1 << 12, "the disk is full"), ("RLIMIT_AS", 0, "ran out of memory")],
)
def test_a_training_without_room_leaves_nothing(tmp_path, limit, value, said):
    pytest.importorskip("trl")
    made = [sys.executable, "-c", LIMITED, limit, str(value), str(tmp_path / "out")]
    module = tmp_path / "tests_finetune.py"
    module.write_text(Path(__file__).read_text(encoding="utf-8"), encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(made, capture_output=True, text=True, env=env, check=False)
    assert said in done.stdout, done.stderr
    assert [p.name for p in tmp_path.glob("out*")] == []


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("method", finetune.METHODS)
def test_a_tiny_model_learns_is_saved_and_loaded(method, tiny, tmp_path):
    tokenizer, model = tiny
    rates = {"full": 1e-2, "lora": 3e-2, "prefix": 0.3}
    recipe = Recipe(method, epochs=6, rate=rates[method], batch=4, rank=8)
    told = []
    made = finetune.train(
        model(),
        tokenizer,
        [example(n) for n in range(8)],
        tmp_path / "out",
        recipe=recipe,
        terms=OWN,
        progress=lambda *state: told.append(state),
    )
    assert made.losses[-1] < made.losses[0] * {"full": 0.8, "lora": 0.95, "prefix": 0.995}[method]
    assert told[-1][:2] == (12, 12)
    assert card_of(made.path)["terms"]["teachers"] == {"rules:desk": "own"}
    base = None if method == "full" else model()
    assert sum(p.numel() for p in finetune.load(made.path, base).parameters()) > 0
    with pytest.raises(ConfigError, match="is there already"):
        finetune.train(model(), tokenizer, [example()], made.path, recipe=recipe, terms=OWN)
    if method != "full":
        other = model()
        other.model.norm.weight.data += 1
        with pytest.raises(CorruptError, match="not the one"):
            finetune.load(made.path, other)
        (made.path / "adapter_model.safetensors").write_bytes(b"broken")
        with pytest.raises(CorruptError, match="is damaged"):
            finetune.load(made.path, model())
    assert json.loads((made.path / "student.json").read_text())["recipe"]["method"] == method
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]
