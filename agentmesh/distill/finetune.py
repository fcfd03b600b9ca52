"""Fine-tuning a local language model: safe settings as data, checks before, training, saving.

Needs the extra `finetune`. Each learned answer is one row of prompt and completion, so that the
loss lies on that answer and its end of turn alone, whatever the model's chat template does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from agentmesh import canonical
from agentmesh.distill.formats import Example
from agentmesh.distill.limits import out_of
from agentmesh.distill.terms import Ruling
from agentmesh.errors import AgentmeshError, ConfigError, CorruptError, missing_extra

Method = Literal["full", "lora", "prefix"]

METHODS: tuple[Method, ...] = ("full", "lora", "prefix")
IGNORED = -100
"""The label of a token that the loss does not see."""

VLLM_RANK = 16
"""The largest rank of an adapter that vLLM takes unless it is told of a larger one."""

_BLOCKS = "▁▂▃▄▅▆▇█"
_CURVE = 60

_RATES: dict[str, float] = {"full": 2e-5, "lora": 2e-4, "prefix": 3e-2}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model is trained. What is not given follows from the method and from the data.

    Args:
        method: all weights, LoRA, or prefix tuning (a prompt of trained keys and values).
        epochs: passes over the data.
        rate: of learning; the method's usual one where it is left out.
        batch: rows per step.
        rank: of LoRA's matrices.
        prefix_tokens: virtual tokens of prefix tuning.
        longest: refuse data with longer rows, in tokens; nothing is ever cut.
        seed: of everything random.
    """

    method: Method = "lora"
    epochs: float = 3.0
    rate: float | None = None
    batch: int = 4
    rank: int = 16
    prefix_tokens: int = 20
    longest: int = 32_768
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(f"no method {self.method!r}", hint=f"one of {', '.join(METHODS)}")
        for name in ("epochs", "batch", "rank", "prefix_tokens", "longest"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}={getattr(self, name)!r}", hint="a number above 0")

    @property
    def checkpointing(self) -> bool:
        """Whether activations are recomputed: never for a prefix, whose cache it would break."""
        return self.method != "prefix"


@dataclass(frozen=True, slots=True)
class Rows:
    """Tokenised rows: `labels` are `IGNORED` on the prompt; `longest` is the longest row."""

    ids: list[list[int]]
    labels: list[list[int]]
    longest: int
    learned_tokens: int


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained student on disk: its losses, and the commands that serve it elsewhere."""

    path: Path
    losses: list[float]
    seconds: float
    serve: dict[str, str] = field(default_factory=dict)
    model: Any = field(default=None, repr=False)

    @property
    def curve(self) -> str:
        """The losses as a line of blocks, for the terminal."""
        step = max(1, -(-len(self.losses) // _CURVE))
        means = [
            sum(part) / len(part)
            for i in range(0, len(self.losses), step)
            if (part := self.losses[i : i + step])
        ]
        low, high = min(means, default=0.0), max(means, default=0.0)
        span = (high - low) or 1.0
        return "".join(_BLOCKS[round((m - low) / span * (len(_BLOCKS) - 1))] for m in means)


def tokenise(examples: Iterable[Example], tokenizer: Any, recipe: Recipe) -> Rows:
    """Return the rows of examples, checked: nothing cut, the end of turn inside the loss.

    Raises:
        ConfigError: no rows, a row too long, no chat template, or a template whose rendering of
            a prompt is not the beginning of its rendering of prompt and answer.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ConfigError(
            "the tokenizer has no chat template", hint="use an instruction-tuned model"
        )
    ids: list[list[int]] = []
    labels: list[list[int]] = []
    for example in examples:
        for single in example.singles():
            prompt, whole = _rendered(single, tokenizer)
            if len(whole) > recipe.longest:
                raise ConfigError(
                    f"a row has {len(whole)} tokens, {recipe.longest} are allowed",
                    hint="raise `longest`, or leave long conversations out",
                )
            ids.append(whole)
            labels.append([IGNORED] * len(prompt) + whole[len(prompt) :])
    if not ids:
        raise ConfigError("there is no example to train on", hint="distill select")
    learned = sum(label != IGNORED for row in labels for label in row)
    return Rows(ids, labels, max(map(len, ids)), learned)


def prompt_of(messages: Sequence[Any], tools: Sequence[Any], tokenizer: Any) -> str:
    """Return a prompt as a model reads it, in training as when it serves."""
    return _shown(messages, tools, tokenizer, add_generation_prompt=True)


def _shown(messages: Sequence[Any], tools: Sequence[Any], tokenizer: Any, **more: Any) -> str:
    listed = list(tools) or None
    text = tokenizer.apply_chat_template(list(messages), tools=listed, tokenize=False, **more)
    return str(text)


def _rendered(single: Example, tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return the tokens of the prompt, as it will be served, and of prompt and answer."""
    before = prompt_of(single.messages[:-1], single.tools, tokenizer)
    text = _shown(single.messages, single.tools, tokenizer)
    if not text.startswith(before):
        raise ConfigError(
            "the chat template renders a prompt otherwise once it is answered",
            hint="use a template that only appends, so that training equals serving",
        )
    prompt = tokenizer(before, add_special_tokens=False)["input_ids"]
    answer = tokenizer(text[len(before) :], add_special_tokens=False)["input_ids"]
    if tokenizer.eos_token_id not in answer:
        raise ConfigError(
            f"an answer does not end with the end of turn {tokenizer.eos_token!r}",
            hint="set the tokenizer's eos_token to what ends an assistant's turn",
        )
    return list(prompt), [*prompt, *answer]


def settings(recipe: Recipe, rows: Rows, out: Path | str) -> dict[str, Any]:
    """Return the arguments of TRL's `SFTConfig`: the length is the data's, nothing is packed."""
    return {
        "output_dir": str(out),
        "max_length": rows.longest,
        "packing": False,
        "assistant_only_loss": False,  # the labels say it, row by row
        "gradient_checkpointing": recipe.checkpointing,
        "learning_rate": recipe.rate if recipe.rate is not None else _RATES[recipe.method],
        "num_train_epochs": recipe.epochs,
        "per_device_train_batch_size": recipe.batch,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "seed": recipe.seed,
        "dataset_kwargs": {"skip_prepare_dataset": True},
    }


def train(
    model: Any,
    tokenizer: Any,
    examples: Iterable[Example],
    out: Path | str,
    *,
    recipe: Recipe | None = None,
    terms: Ruling,
    base: str = "",
    progress: Callable[[int, int, float], None] | None = None,
    precision: Literal["float32", "bfloat16"] = "float32",
) -> Trained:
    """Train a causal language model of Transformers and save it with what it was made from.

    Args:
        model: the model; its weights are changed.
        tokenizer: of the model, with its chat template.
        examples: what is learned.
        out: folder of the result; it appears whole or not at all.
        recipe: how.
        terms: the right to do it; see `check_terms`.
        base: the base model's name, for those who load an adapter.
        progress: told the step, of how many, and the loss.
        precision: of the computation.

    Raises:
        ConfigError: see `tokenise`; or the machine has not enough memory or disk.
    """
    import os
    import time

    recipe = recipe or Recipe()
    out = Path(out)
    if out.exists():
        raise ConfigError(f"{str(out)!r} is there already", hint="give a new folder")
    rows = tokenise(examples, tokenizer, recipe)
    _fits(rows, recipe, model)
    fingerprint = weights_sha(model)
    part = out.with_name(out.name + ".part")
    if not recipe.checkpointing:
        model.gradient_checkpointing_disable()  # it may come with it on
    began = time.perf_counter()
    try:
        trainer = _trainer(model, tokenizer, rows, recipe, part, progress, precision)
        trainer.train()
        trainer.model.save_pretrained(part)
        tokenizer.save_pretrained(part)
        losses = [float(row["loss"]) for row in trainer.state.log_history if "loss" in row]
        card = {
            "recipe": asdict(recipe),
            "rows": len(rows.ids),
            "longest": rows.longest,
            "learned_tokens": rows.learned_tokens,
            "losses": losses,
            "terms": asdict(terms),
            "base": base,
            "base_sha": fingerprint,
            "template_sha": canonical.sha(str(tokenizer.chat_template)),
        }
        if modelfile := _modelfile(recipe.method, base):
            (part / "Modelfile").write_text(modelfile, encoding="utf-8")
        (part / "student.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
        os.replace(part, out)
    except AgentmeshError:
        raise
    except Exception as error:  # torch, safetensors and TRL raise types of their own
        failed = ConfigError(f"training failed: {error}", hint="nothing was saved")
        raise out_of(error) or failed from error
    finally:
        _remove(part)
    serve = serving(out, recipe.method, base, recipe.rank)
    return Trained(out, losses, time.perf_counter() - began, serve, trainer.model)


def _fits(rows: Rows, recipe: Recipe, model: Any) -> None:
    """Refuse data that the model has no positions for."""
    longest = rows.longest + (recipe.prefix_tokens if recipe.method == "prefix" else 0)
    possible = getattr(model.config, "max_position_embeddings", None)
    if possible is not None and longest > possible:
        raise ConfigError(
            f"a row has {longest} tokens, the model has {possible} positions",
            hint="leave long conversations out, or take a base model with a longer context",
        )


def _trainer(
    model: Any,
    tokenizer: Any,
    rows: Rows,
    recipe: Recipe,
    part: Path,
    progress: Callable[[int, int, float], None] | None,
    precision: str,
) -> Any:
    try:
        import peft
        import torch
        from datasets import Dataset
        from transformers import DataCollatorForSeq2Seq, PrinterCallback, TrainerCallback
        from trl import SFTConfig, SFTTrainer
    except ImportError as error:
        raise missing_extra("finetune", "training a language model") from error

    class Told(TrainerCallback):  # type: ignore[misc]  # the base is untyped without the extra
        def on_log(
            self, args: Any, state: Any, control: Any, logs: Any = None, **more: Any
        ) -> None:
            if progress is not None and logs and "loss" in logs:
                progress(state.global_step, state.max_steps, float(logs["loss"]))

    adapters = {
        "full": None,
        "lora": peft.LoraConfig(
            task_type="CAUSAL_LM",
            r=recipe.rank,
            lora_alpha=2 * recipe.rank,
            target_modules="all-linear",
        ),
        "prefix": peft.PrefixTuningConfig(
            task_type="CAUSAL_LM", num_virtual_tokens=recipe.prefix_tokens
        ),
    }
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    data = Dataset.from_dict(
        {
            "input_ids": rows.ids,
            "labels": rows.labels,
            "attention_mask": [[1] * len(row) for row in rows.ids],
        }
    )
    arguments = {
        **settings(recipe, rows, part),
        "bf16": precision == "bfloat16",
        "dataloader_pin_memory": torch.cuda.is_available(),
    }
    trainer = SFTTrainer(
        model,
        args=SFTConfig(**arguments),
        train_dataset=data,
        data_collator=DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED),
        processing_class=tokenizer,
        peft_config=adapters[recipe.method],
        callbacks=[Told()],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def weights_sha(model: Any) -> str:
    """Return a hash of a model's weights, by which a changed base model is noticed."""
    import hashlib

    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {float(tensor.double().sum())!r}\n".encode())
    return digest.hexdigest()


def card_of(path: Path | str) -> dict[str, Any]:
    """Return what a trained student was made from."""
    file = Path(path) / "student.json"
    try:
        card: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"there is no student in {str(path)!r}", hint="train one first"
        ) from error
    except ValueError as error:
        raise CorruptError(f"{str(file)!r} is damaged", hint="train it anew") from error
    return card


def load(path: Path | str, base: Any = None) -> Any:
    """Return a trained student's model; adapters need the base model that they were trained on.

    Raises:
        CorruptError: the base model is another one, or the adapter's files are damaged.
    """
    card = card_of(path)
    try:
        if card["recipe"]["method"] == "full":
            from transformers import AutoModelForCausalLM

            return _whole(AutoModelForCausalLM, path)
        from peft import PeftModel
    except ImportError as error:
        raise missing_extra("finetune", "serving a trained language model") from error
    if base is None:
        raise ConfigError("an adapter needs its base model", hint=f"load {card['base']!r} first")
    if weights_sha(base) != card["base_sha"]:
        raise CorruptError(
            f"the base model is not the one that {str(path)!r} was trained on",
            hint=f"use {card['base'] or 'the same weights'}",
        )
    try:
        return PeftModel.from_pretrained(base, str(path))
    except Exception as error:  # safetensors and peft raise types of their own
        raise CorruptError(f"the adapter in {str(path)!r} is damaged: {error}") from error


def _whole(cls: Any, path: Path | str) -> Any:
    try:
        return cls.from_pretrained(str(path))
    except Exception as error:  # safetensors and transformers raise types of their own
        raise CorruptError(
            f"the model in {str(path)!r} is damaged: {error}", hint="train it anew"
        ) from error


def serving(path: Path | str, method: Method, base: str, rank: int = 0) -> dict[str, str]:
    """Return the commands that serve a student; prefixes are served in-process alone."""
    if method == "prefix":
        return {}
    ollama = f"ollama create student -f {path}/Modelfile"
    if method == "full":
        return {"vllm": f"vllm serve {path} --served-model-name student", "ollama": ollama}
    vllm = f"vllm serve {base or 'BASE'} --enable-lora --lora-modules student={path}"
    if rank > VLLM_RANK:
        vllm += f" --max-lora-rank {rank}"
    return {"vllm": vllm, "ollama": ollama}


def _modelfile(method: Method, base: str) -> str:
    """Return what Ollama is told of a student, in the student's own folder."""
    if method == "prefix":
        return ""
    return "FROM .\n" if method == "full" else f"FROM {base or 'BASE'}\nADAPTER .\n"


def _remove(part: Path) -> None:
    import shutil

    shutil.rmtree(part, ignore_errors=True)
