"""A student of the second kind: a local language model, fine-tuned, answering in this process.

Needs the extra `finetune`. What it writes is read back by the chat template that it was trained
with, tool calls included, so that training and serving cannot differ.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

from agentmesh.distill.finetune import card_of, prompt_of
from agentmesh.distill.finetune import load as load_model
from agentmesh.distill.student import Guess, unreadable
from agentmesh.distill.traces import Message
from agentmesh.errors import ConfigError, CorruptError, missing_extra

MAX_TOKENS = 512
"""Of one answer; one that is longer is no answer."""

_NAME, _ARGUMENTS = "nameofthetool", '{"of": "arguments"}'
_CARD = "student.json"


class LanguageStudent:
    """A causal language model that answers prompts, and abstains where it is not sure.

    How sure it is, is the geometric mean of its tokens' probabilities.

    Example:
        made = finetune.train(model, tokenizer, examples, "out", terms=terms)
        student = LanguageStudent.load("out", base)
        Tier("student", StudentModel(student=student, name="desk"))
    """

    kind: ClassVar[str] = "language-model"

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        path: Path | str,
        *,
        threshold: float = 0.0,
        max_tokens: int = MAX_TOKENS,
    ) -> None:
        self._model, self._tokenizer, self._path = model.eval(), tokenizer, Path(path)
        self._calls = call_pattern(tokenizer)
        self._lock = Lock()
        self.threshold, self.max_tokens = threshold, max_tokens

    def answer(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> Guess:
        """Return the model's answer, or an abstention with the reason."""
        import torch

        text = prompt_of(messages, tools, self._tokenizer)
        ids = self._tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        ids = ids.to(self._model.device)
        length = int(ids.shape[1])
        longest = getattr(self._model.config, "max_position_embeddings", None)
        if longest is not None and length >= longest:
            return Guess(None, 0.0, f"the prompt has {length} tokens, {longest} are possible")
        with self._lock, torch.inference_mode():
            model, ids, more = _prefixed(self._model, ids)
            made = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=self.max_tokens,
                do_sample=False,
                eos_token_id=self._tokenizer.eos_token_id,
                pad_token_id=self._tokenizer.pad_token_id,
                return_dict_in_generate=True,
                output_logits=True,
                **more,
            )
        new = made.sequences[0, ids.shape[1] :].tolist()
        sure = _sureness(made.logits, new)
        if self._tokenizer.eos_token_id not in new:
            why = f"the answer was not finished within {self.max_tokens} tokens"
            return Guess(None, sure, why, length, len(new))
        if sure < self.threshold:
            why = f"sure to {sure:.3f}, {self.threshold:.3f} is asked for"
            return Guess(None, sure, why, length, len(new))
        written = new[: new.index(self._tokenizer.eos_token_id)]
        said = self._tokenizer.decode(written, skip_special_tokens=False)
        answer = self._read(said, len(messages))
        why = unreadable(answer) if answer else "the answer is empty"
        return Guess(None if why else answer, sure, why, length, len(new))

    def save(self, path: Path | str) -> None:
        """Copy the student's folder, with its threshold; an adapter's base model is not in it."""
        path = Path(path)
        if path.absolute() != self._path.absolute():
            try:
                shutil.copytree(self._path, path)
            except OSError as error:
                shutil.rmtree(path, ignore_errors=True)
                raise ConfigError(
                    f"the student cannot be saved to {str(path)!r}: {error}",
                    hint="is it there already, or the disk full?",
                ) from error
        card = {**card_of(path), "threshold": self.threshold, "max_tokens": self.max_tokens}
        part = path / f"{_CARD}.part"
        try:
            part.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
            os.replace(part, path / _CARD)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise ConfigError(f"{str(path)!r} cannot be written: {error.strerror}") from error

    @classmethod
    def load(cls, path: Path | str, base: Any = None) -> LanguageStudent:
        """Return a saved student; an adapter's base model is found by its name where it is left out.

        Raises:
            ConfigError: there is no student, or no base model.
            CorruptError: the files are damaged, or the base model is another one.
        """
        card = card_of(path)
        try:
            from transformers import AutoModelForCausalLM, AutoTokenizer
        except ImportError as error:
            raise missing_extra("finetune", "serving a trained language model") from error
        if base is None and card["recipe"]["method"] != "full" and card["base"]:
            try:
                base = AutoModelForCausalLM.from_pretrained(card["base"])
            except (OSError, ValueError) as error:
                raise ConfigError(
                    f"the base model {card['base']!r} cannot be loaded", hint="give it as base="
                ) from error
        model = load_model(path, base)
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(path))
        except Exception as error:  # tokenizers raise types of their own
            raise CorruptError(
                f"the tokenizer in {str(path)!r} is damaged", hint="train it anew"
            ) from error
        more = {name: card[name] for name in ("threshold", "max_tokens") if name in card}
        return cls(model, tokenizer, path, **more)

    def _read(self, said: str, place: int) -> Message | None:
        calls = [
            {
                "id": f"call_{place}_{i}",
                "type": "function",
                "function": {"name": match["name"], "arguments": _arguments(match["arguments"])},
            }
            for i, match in enumerate(self._calls.finditer(said) if self._calls else ())
        ]
        text = (self._calls.sub("", said) if self._calls else said).strip()
        if not calls:
            return {"role": "assistant", "content": text} if text else None
        return {"role": "assistant", "content": text or None, "tool_calls": calls}


def call_pattern(tokenizer: Any) -> re.Pattern[str] | None:
    """Return what finds the tool calls in an answer, from how the chat template writes one.

    None where the template shows no calls, or not in a way that can be read back.
    """
    call = {"id": "c", "type": "function", "function": {"name": _NAME, "arguments": _ARGUMENTS}}
    asked = [{"role": "user", "content": "?"}]
    answer = {"role": "assistant", "content": None, "tool_calls": [call]}

    def render(messages: list[Any], **more: Any) -> str:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, **more))

    before = render(asked, add_generation_prompt=True)
    said = render([*asked, answer])[len(before) :].partition(tokenizer.eos_token)[0].strip()
    for written in (json.dumps(_ARGUMENTS), _ARGUMENTS):
        if _NAME in said and written in said:
            pattern = re.escape(said).replace(re.escape(_NAME), r"(?P<name>[\w.-]+)", 1)
            quoted = r'(?P<arguments>"(?:[^"\\]|\\.)*")'
            found = quoted if written != _ARGUMENTS else r"(?P<arguments>\{.*?\})"
            return re.compile(pattern.replace(re.escape(written), found, 1), re.DOTALL)
    return None


def _arguments(written: str) -> str:
    return str(json.loads(written)) if written.startswith('"') else written


def _prefixed(model: Any, ids: Any) -> tuple[Any, Any, dict[str, Any]]:
    """Return what generates, its tokens, and the trained prefix as the cache that it begins with.

    Transformers calls the cache otherwise from 5.24 on, and PEFT's own way of giving it is then
    ignored without a word: the base model alone would answer.
    """
    settings = getattr(model, "active_peft_config", None)
    if settings is None or not settings.is_prompt_learning:
        return model, ids, {}
    base = model.get_base_model()
    name = "cache" if "cache" in signature(base.forward).parameters else "past_key_values"
    held = ids.new_full((1, settings.num_virtual_tokens), base.config.pad_token_id or 0)
    return (
        base,
        held.new_tensor([[*held[0].tolist(), *ids[0].tolist()]]),
        {name: model.get_prompt(batch_size=1)},
    )


def _sureness(logits: Sequence[Any], new: Sequence[int]) -> float:
    """Return the geometric mean of the probabilities of the tokens that were written."""
    if not new:
        return 0.0
    odds = [
        float(step[0].log_softmax(dim=-1)[token]) for step, token in zip(logits, new, strict=True)
    ]
    return math.exp(sum(odds) / len(odds))
