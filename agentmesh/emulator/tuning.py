"""Files and fine-tuning jobs, as OpenAI and servers like it have them; training is remembering.

A job moves on by one state each time it is looked at. The model that it makes answers a prompt
that its file holds with the file's answer, and knows nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email import message_from_bytes
from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agentmesh.economy.billing import Clock
from agentmesh.economy.tokens import count
from agentmesh.emulator import openai
from agentmesh.emulator.brain import Answer, Brain, Request
from agentmesh.emulator.refusal import Refusal

LEAST = 10
"""Examples that a training file needs."""

_STATES = ("validating_files", "queued", "running", "running", "succeeded")
_ENDED = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class TuningFaults:
    """What goes wrong with fine-tuning, for tests.

    Args:
        limited: so many requests are refused with status 429 first.
        lost: the job is unknown after it was looked at so often.
        failure: the message with which training fails.
        expired: the first so many files are gone when a job wants them.
    """

    limited: int = 0
    lost: int | None = None
    failure: str = ""
    expired: int = 0


class Tuning:
    """The files and jobs of an emulated vendor, and the models that came of them."""

    def __init__(self, clock: Clock, brains: dict[str, Brain], faults: TuningFaults) -> None:
        self._clock, self._brains, self._faults = clock, brains, faults
        self._limited, self._expired = faults.limited, faults.expired
        self.files: dict[str, tuple[dict[str, Any], bytes]] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self._looks: dict[str, int] = {}

    def routes(self) -> list[Route]:
        """Return the routes of the API."""
        job = "/v1/fine_tuning/jobs/{id}"
        return [
            Route("/v1/files", self._guarded(self.upload), methods=["POST"]),
            Route("/v1/files/{id}", self._guarded(self.file)),
            Route("/v1/fine_tuning/jobs", self._guarded(self.create), methods=["POST"]),
            Route("/v1/fine_tuning/jobs", self._guarded(self.list), methods=["GET"]),
            Route(job, self._guarded(self.job)),
            Route(f"{job}/events", self._guarded(self.events)),
            Route(f"{job}/cancel", self._guarded(self.cancel), methods=["POST"]),
        ]

    def _guarded(self, handle: Any) -> Any:
        async def guarded(request: HttpRequest) -> Response:
            try:
                if not request.headers.get("authorization", "").removeprefix("Bearer").strip():
                    raise Refusal("You didn't provide an API key.", status=401)
                if self._limited:
                    self._limited -= 1
                    raise Refusal("Rate limit reached.", status=429, retry_after_s=0.01)
                return JSONResponse(await handle(request))
            except Refusal as refusal:
                wait = refusal.retry_after_s
                headers = {} if wait is None else {"retry-after": f"{wait:g}"}
                return JSONResponse(openai.error(refusal), refusal.status, headers)

        return guarded

    async def upload(self, request: HttpRequest) -> dict[str, Any]:
        """Keep a file."""
        head = f"content-type: {request.headers.get('content-type', '')}\r\n\r\n".encode()
        form: Any = message_from_bytes(head + await request.body())
        fields: dict[str, tuple[str, bytes]] = {}
        for part in form.get_payload() if form.is_multipart() else ():
            name = str(part.get_param("name", header="content-disposition"))
            fields[name] = str(part.get_filename() or ""), part.get_payload(decode=True) or b""
        if "file" not in fields or fields.get("purpose", ("", b""))[1] != b"fine-tune":
            raise Refusal("A 'file' and the purpose 'fine-tune' are needed.", param="file")
        name, content = fields["file"]
        file: dict[str, Any] = {
            "id": f"file-{len(self.files) + 1:012d}",
            "object": "file",
            "bytes": len(content),
            "created_at": int(self._clock()),
            "filename": name,
            "purpose": "fine-tune",
            "status": "processed",
        }
        self.files[file["id"]] = file, content
        return file

    async def file(self, request: HttpRequest) -> dict[str, Any]:
        """Return a file's description."""
        return self._file(request.path_params["id"])[0]

    async def create(self, request: HttpRequest) -> dict[str, Any]:
        """Begin a job."""
        try:
            raw = json.loads(await request.body())
        except ValueError as error:
            raise Refusal(f"The request body is not valid JSON: {error}") from error
        for name in ("model", "training_file"):
            if not isinstance(raw.get(name), str):
                raise Refusal(f"Missing required parameter: '{name}'.", param=name)
        if self._expired:
            self._expired -= 1
            self.files.pop(raw["training_file"], None)
        self._file(raw["training_file"])
        number = len(self.jobs) + 1
        job = {
            "id": f"ftjob-{number:012d}",
            "object": "fine_tuning.job",
            "created_at": int(self._clock()),
            "model": raw["model"],
            "training_file": raw["training_file"],
            "validation_file": None,
            "fine_tuned_model": None,
            "finished_at": None,
            "status": _STATES[0],
            "error": None,
            "hyperparameters": raw.get("hyperparameters") or {"n_epochs": "auto"},
            "seed": raw.get("seed") or 0,
            "organization_id": "org-emulator",
            "result_files": [],
            "trained_tokens": None,
            "user_provided_suffix": raw.get("suffix"),
        }
        self.jobs[job["id"]] = job
        self._looks[job["id"]] = 0
        return job

    async def list(self, request: HttpRequest) -> dict[str, Any]:
        """Return all jobs, the newest first."""
        return {"object": "list", "data": [*reversed(self.jobs.values())], "has_more": False}

    async def job(self, request: HttpRequest) -> dict[str, Any]:
        """Return a job, which moves on."""
        job = self._job(request.path_params["id"])
        self._looks[job["id"]] += 1
        if self._faults.lost is not None and self._looks[job["id"]] > self._faults.lost:
            del self.jobs[job["id"]]
            raise _unknown("fine-tuning job", job["id"])
        if job["status"] not in _ENDED:
            self._move(job)
        return job

    async def events(self, request: HttpRequest) -> dict[str, Any]:
        """Return what happened to a job, the newest first."""
        job = self._job(request.path_params["id"])
        looks = self._looks[job["id"]]
        rows = [
            {
                "id": f"ftevent-{job['id']}-{step}",
                "object": "fine_tuning.job.event",
                "created_at": job["created_at"] + step,
                "level": "info",
                "message": f"Step {step}: training loss={1 / (step + 1):.2f}",
                "type": "metrics",
                "data": {"step": step, "train_loss": 1 / (step + 1)},
            }
            for step in range(1, looks + 1)
        ]
        return {"object": "list", "data": rows[::-1], "has_more": False}

    async def cancel(self, request: HttpRequest) -> dict[str, Any]:
        """Stop a job."""
        job = self._job(request.path_params["id"])
        if job["status"] in _ENDED:
            raise Refusal(f"Job has status {job['status']!r} and cannot be cancelled.")
        job["status"] = "cancelled"
        return job

    def _move(self, job: dict[str, Any]) -> None:
        job["status"] = _STATES[min(self._looks[job["id"]], len(_STATES) - 1)]
        if job["status"] != "succeeded":
            return
        rows, problem = _examples(self._file(job["training_file"])[1])
        problem = problem or self._faults.failure
        if problem:
            error = {"code": "invalid_training_file", "message": problem, "param": "training_file"}
            job |= {"status": "failed", "error": error}
            return
        suffix = job["user_provided_suffix"] or ""
        name = f"ft:{job['model']}:emulator:{suffix}:{job['id'][-6:]}"
        self._brains[name] = remembering(rows)
        tokens = sum(count(json.dumps(row)) for row in rows)
        job |= {"fine_tuned_model": name, "trained_tokens": tokens}
        job["finished_at"] = int(self._clock())

    def _file(self, name: str) -> tuple[dict[str, Any], bytes]:
        if name not in self.files:
            raise _unknown("file", name, param="training_file")
        return self.files[name]

    def _job(self, name: str) -> dict[str, Any]:
        if name not in self.jobs:
            raise _unknown("fine-tuning job", name)
        return self.jobs[name]


def remembering(rows: list[dict[str, Any]]) -> Brain:
    """Return a brain that answers the prompts of a training file as the file does."""
    known: dict[str, Answer] = {}
    for row in rows:
        for i, message in enumerate(row["messages"]):
            if message["role"] == "assistant" and message.get("weight", 1):
                known[_prompt(row["messages"][:i])] = _answer(message)

    def brain(request: Request) -> Answer:
        return known.get(_prompt(request.raw["messages"]), Answer("I do not know."))

    return brain


def _prompt(messages: list[Mapping[str, Any]]) -> str:
    said = []
    for message in messages:
        calls = [call["function"] for call in message.get("tool_calls") or ()]
        content = message.get("content") or ""
        if isinstance(content, list):
            content = "".join(part.get("text", "") for part in content)
        said.append([message["role"], content, calls])
    return re.sub(r"\s+", " ", json.dumps(said, sort_keys=True))


def _answer(message: Mapping[str, Any]) -> Answer:
    calls = [call["function"] for call in message.get("tool_calls") or ()]
    return Answer(message.get("content") or "", [(c["name"], c["arguments"]) for c in calls])


def _examples(content: bytes) -> tuple[list[dict[str, Any]], str]:
    """Return a training file's rows, and what is wrong with it."""
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        try:
            row = json.loads(line)
            roles = [message["role"] for message in row["messages"]]
        except (ValueError, KeyError, TypeError):
            return [], f"Line {number} is not an example in the chat format."
        if not roles or roles[-1] != "assistant":
            return [], f"Line {number} does not end with an assistant's message."
        rows.append(row)
    if len(rows) < LEAST:
        return [], f"Training file has {len(rows)} example(s), but must have at least {LEAST}."
    return rows, ""


def _unknown(what: str, name: str, param: str | None = None) -> Refusal:
    return Refusal(f"No such {what}: {name}", status=404, param=param)
