"""A student of the third kind: fine-tuned and served by whoever hosts its base model.

Through the `openai` SDK, at OpenAI or at any endpoint that has its files and fine-tuning jobs.
What was begun stands in a file beside the result, so that a killed process goes on where it was
and no job is paid for twice.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from agentmesh import canonical
from agentmesh.distill.formats import Example, export
from agentmesh.distill.student import Guess, unreadable
from agentmesh.distill.terms import Ruling
from agentmesh.distill.traces import Message, plain
from agentmesh.errors import AgentmeshError, ConfigError, CorruptError, TierError

if TYPE_CHECKING:
    from openai import OpenAI

FORMAT = "agentmesh-hosted-student"
POLL_S = 20.0
RETRIES = 6
"""How often the SDK sends a request again that failed in passing, waiting as it is asked to."""

_FAILED = ("failed", "cancelled")


@dataclass
class Job:
    """A training that was begun: where, of what, and how far it is; kept in a file."""

    path: Path
    model: str
    base_url: str | None
    data: str
    file: str = ""
    id: str = ""

    def save(self) -> None:
        """Write the state; the file is there whole or not at all."""
        part = self.path.with_name(self.path.name + ".part")
        part.write_text(json.dumps({**asdict(self), "path": None}), encoding="utf-8")
        os.replace(part, self.path)

    @classmethod
    def of(cls, out: Path, model: str, base_url: str | None, data: str) -> Job:
        """Return the training that was begun for `out`, or a new one."""
        path = out.with_suffix(".job.json")
        if not path.exists():
            return cls(path, model, base_url, data)
        try:
            job = cls(**{**json.loads(path.read_text(encoding="utf-8")), "path": path})
        except (ValueError, TypeError) as error:
            raise CorruptError(
                f"{str(path)!r} is damaged", hint="delete it to begin anew"
            ) from error
        if (job.model, job.base_url, job.data) != (model, base_url, data):
            raise ConfigError(
                f"another training was begun for {str(out)!r}",
                hint=f"give another path, or cancel it and delete {str(path)!r}",
            )
        return job


def tune(
    examples: Iterable[Example],
    out: Path | str,
    *,
    model: str,
    terms: Ruling,
    base_url: str | None = None,
    api_key: str | None = None,
    suffix: str = "student",
    epochs: int | None = None,
    progress: Callable[[str, float | None], None] | None = None,
    poll_s: float = POLL_S,
    deadline_s: float = 24 * 3_600,
    sleep: Callable[[float], None] = time.sleep,
) -> HostedStudent:
    """Fine-tune a hosted model and return the student, saved to `out` (`.json`).

    Called again after a crash, with the same examples, it goes on with the job that runs.

    Args:
        examples: what is learned, written beside `out` as OpenAI's chat lines.
        out: where the student is written; it names the model and holds no weights.
        model: the base model's name at the endpoint.
        terms: the right to do it; see `check_terms`.
        base_url: an OpenAI-compatible endpoint; OpenAI's own if left out.
        api_key: `OPENAI_API_KEY` if left out.
        suffix: for the name of the result.
        epochs: passes over the data; the endpoint's choice if left out.
        progress: told the job's state and the last training loss.
        poll_s: how often the job is looked at.
        deadline_s: how long it is waited for.
        sleep: waits.

    Raises:
        ConfigError: the job failed, was lost, or the endpoint refuses; nothing else is touched.
    """
    out = Path(out)
    if out.suffix != ".json":
        raise ConfigError(f"{str(out)!r} is no place for a hosted student", hint="NAME.json")
    file = out.with_suffix(".jsonl")
    data = export(file, examples, format="openai", terms=terms).sha
    job = Job.of(out, model, base_url, data)
    with _client(base_url, api_key) as client, _told(model):
        tuned = _run(client, job, file, suffix, epochs, progress, poll_s, deadline_s, sleep)
    student = HostedStudent(tuned, base=model, base_url=base_url, api_key=api_key, terms=terms)
    student.save(out)
    job.path.unlink(missing_ok=True)
    return student


def cancel(out: Path | str, *, api_key: str | None = None) -> bool:
    """Stop the training that was begun for `out`; False where none runs."""
    path = Path(out).with_suffix(".job.json")
    if not path.exists():
        return False
    state = json.loads(path.read_text(encoding="utf-8"))
    if state["id"]:
        with _client(state["base_url"], api_key) as client, _told(state["model"]):
            client.fine_tuning.jobs.cancel(state["id"])
    path.unlink()
    return bool(state["id"])


def _run(
    client: OpenAI,
    job: Job,
    file: Path,
    suffix: str,
    epochs: int | None,
    progress: Callable[[str, float | None], None] | None,
    poll_s: float,
    deadline_s: float,
    sleep: Callable[[float], None],
) -> str:
    """Begin the job or find it again, wait for its end, and return the new model's name."""
    if not job.id:
        _begin(client, job, file, suffix, epochs)
    left = deadline_s
    while True:
        found = _look(client, job)
        if progress is not None:
            progress(found.status, _loss(client, job.id))
        if found.status == "succeeded":
            return str(found.fine_tuned_model)
        if found.status in _FAILED:
            job.path.unlink(missing_ok=True)
            why = getattr(found.error, "message", None) or "no reason was given"
            raise ConfigError(
                f"the fine-tuning of {job.model!r} {found.status}: {why}",
                hint="what is live goes on; correct the data and begin anew",
            )
        if left <= 0:
            raise ConfigError(
                f"the fine-tuning of {job.model!r} is still {found.status}",
                hint="run it again later: it goes on with the same job",
            )
        sleep(poll_s)
        left -= poll_s


def _begin(client: OpenAI, job: Job, file: Path, suffix: str, epochs: int | None) -> None:
    """Upload the file and create the job; one that a killed process created is taken over."""
    import openai

    for again in (True, False):
        if not job.file:
            job.file = client.files.create(file=file, purpose="fine-tune").id
            job.save()
        running = [j for j in client.fine_tuning.jobs.list() if j.training_file == job.file]
        if running:
            job.id = running[0].id
            break
        more: dict[str, Any] = {"hyperparameters": {"n_epochs": epochs}} if epochs else {}
        try:
            job.id = client.fine_tuning.jobs.create(
                model=job.model, training_file=job.file, suffix=suffix, **more
            ).id
            break
        except (openai.NotFoundError, openai.BadRequestError) as error:
            if not again or getattr(error, "param", None) != "training_file":
                raise
            job.file = ""  # it has expired: once more with a new one
    job.save()


def _look(client: OpenAI, job: Job) -> Any:
    import openai

    try:
        return client.fine_tuning.jobs.retrieve(job.id)
    except openai.NotFoundError as error:
        job.path.unlink(missing_ok=True)
        raise ConfigError(
            f"the endpoint no longer knows the job {job.id!r}",
            hint="what is live goes on; ask the endpoint, or begin anew",
        ) from error


def _loss(client: OpenAI, job: str) -> float | None:
    for event in client.fine_tuning.jobs.list_events(job, limit=10).data:
        data = event.data if isinstance(event.data, dict) else {}
        if "train_loss" in data:
            return float(data["train_loss"])
    return None


@dataclass
class HostedStudent:
    """A fine-tuned model at its endpoint; the file that it is saved to holds its name alone."""

    model: str
    base: str
    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    terms: Ruling | None = None
    threshold: float = 0.0
    timeout_s: float = 60.0
    kind: ClassVar[str] = "hosted"

    def answer(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> Guess:
        """Return the model's answer; an abstention where it is less sure than the threshold.

        How sure it is, is the mean probability of its tokens; endpoints that do not tell it are
        taken at their word.
        """
        shown: Any = list(messages)
        more: dict[str, Any] = {"tools": list(tools)} if tools else {}
        if self.threshold:
            more["logprobs"] = True
        with _client(self.base_url, self.api_key, self.timeout_s) as client, _asked(self.model):
            said = client.chat.completions.create(
                model=self.model, messages=shown, temperature=0, **more
            )
        choice = said.choices[0]
        told = (choice.logprobs.content if choice.logprobs else None) or []
        sure = math.exp(sum(t.logprob for t in told) / len(told)) if told else 1.0
        usage = said.usage
        tokens = (usage.prompt_tokens, usage.completion_tokens) if usage else (0, 0)
        if sure < self.threshold:
            why = f"sure to {sure:.3f}, {self.threshold:.3f} is asked for"
            return Guess(None, sure, why, *tokens)
        answer = plain(choice.message.model_dump(exclude_none=True))
        why = unreadable(answer)
        return Guess(None if why else answer, sure, why, *tokens)

    def save(self, path: Path | str) -> None:
        """Write which model it is; the key stays where it is."""
        path = Path(path)
        value = {
            "format": FORMAT,
            "model": self.model,
            "base": self.base,
            "base_url": self.base_url,
            "threshold": self.threshold,
            "terms": asdict(self.terms) if self.terms else None,
        }
        value["sha"] = canonical.sha(canonical.dumps(value))
        part = path.with_name(path.name + ".part")
        try:
            part.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
            os.replace(part, path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise ConfigError(f"{str(path)!r} cannot be written: {error.strerror}") from error

    @classmethod
    def load(cls, path: Path | str, *, api_key: str | None = None) -> HostedStudent:
        """Return a saved student; CorruptError where the file was changed."""
        try:
            value = json.loads(Path(path).read_text(encoding="utf-8"))
            sha = value.pop("sha")
            whole = value["format"] == FORMAT and sha == canonical.sha(canonical.dumps(value))
        except OSError as error:
            raise ConfigError(f"{str(path)!r} cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptError(
                f"{str(path)!r} is not a hosted student", hint="train it anew"
            ) from error
        if not whole:
            raise CorruptError(f"{str(path)!r} was changed", hint="train it anew")
        terms = Ruling(**value["terms"]) if value["terms"] else None
        return cls(
            value["model"],
            base=value["base"],
            base_url=value["base_url"],
            api_key=api_key,
            terms=terms,
            threshold=value["threshold"],
        )


@contextmanager
def _client(
    base_url: str | None, api_key: str | None, timeout_s: float = 600.0
) -> Iterator[OpenAI]:
    from openai import OpenAI, OpenAIError

    try:
        client = OpenAI(base_url=base_url, api_key=api_key, max_retries=RETRIES, timeout=timeout_s)
    except OpenAIError as error:
        raise ConfigError("no API key is given", hint="set OPENAI_API_KEY, or api_key=") from error
    with client:
        yield client


@contextmanager
def _told(model: str) -> Iterator[None]:
    """Turn the SDK's errors into one line that says what the endpoint said."""
    from openai import OpenAIError

    try:
        yield
    except OpenAIError as error:
        raise ConfigError(
            f"the endpoint did not fine-tune {model!r}: {str(error)[:300]}",
            hint="what is live goes on; run it again: it goes on where it was",
        ) from error


@contextmanager
def _asked(model: str) -> Iterator[None]:
    """Turn a failure of the model into a tier's, so that the step goes up."""
    from agentmesh.providers.foreign import failure_of

    try:
        yield
    except AgentmeshError:
        raise
    except Exception as error:
        failure: TierError = failure_of(error, model)
        raise failure from error
