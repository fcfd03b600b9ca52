import json

import pytest

from agentmesh.distill import hosted
from agentmesh.distill.formats import Example
from agentmesh.distill.hosted import HostedStudent, cancel, tune
from agentmesh.distill.terms import Ruling
from agentmesh.emulator.tuning import TuningFaults
from agentmesh.errors import ConfigError, CorruptError
from agentmesh.testing import echo, emulator

OWN = Ruling("hosted", {"rules:desk": "own"})
CALL = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"a": 1}'}}
TOOLS = ({"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}},)


def examples(n=12):
    for i in range(n):
        answer = {"role": "assistant", "content": f"Answer {i}"}
        if i % 2:
            answer = {"role": "assistant", "content": None, "tool_calls": [CALL]}
        yield Example(({"role": "user", "content": f"Ask {i}"}, answer), TOOLS, (1,))


def trained(server, out, rows=None, **more):
    return tune(
        rows or examples(),
        out,
        model="gpt-4.1-mini",
        terms=OWN,
        base_url=server.openai_url,
        api_key="k",
        sleep=lambda s: None,
        **more,
    )


def test_a_hosted_model_is_trained_and_answers_as_its_file_does(tmp_path):
    told = []
    with emulator(echo, tuning_faults=TuningFaults(limited=3)) as server:
        student = trained(
            server, tmp_path / "desk.json", epochs=2, progress=lambda *state: told.append(state)
        )
        assert student.model.startswith("ft:gpt-4.1-mini:")
        guess = student.answer([{"role": "user", "content": "Ask 2"}], TOOLS)
        assert (guess.answer["content"], guess.confidence) == ("Answer 2", 1.0)
        assert guess.input_tokens > 0
        called = student.answer([{"role": "user", "content": "Ask 3"}], TOOLS).answer
        assert called["tool_calls"][0]["function"] == CALL["function"]
    assert [state for state, _ in told] == ["queued", "running", "running", "succeeded"]
    losses = [loss for _, loss in told]
    assert losses == sorted(losses, reverse=True)
    assert not (tmp_path / "desk.job.json").exists()
    assert "k" not in json.loads((tmp_path / "desk.json").read_text()).values()


def test_a_killed_training_goes_on_with_its_job_and_pays_once(tmp_path):
    out = tmp_path / "desk.json"

    class Killed(Exception):
        pass

    def kill(state, loss):
        raise Killed

    with emulator(echo) as server:
        with pytest.raises(Killed):
            trained(server, out, progress=kill)
        kept = json.loads((tmp_path / "desk.job.json").read_text())
        kept["id"] = ""  # killed between the creation of the job and the note of it
        (tmp_path / "desk.job.json").write_text(json.dumps(kept))
        student = trained(server, out)
        client = hosted._client(server.openai_url, "k")
        with client as api:
            assert len(list(api.fine_tuning.jobs.list())) == 1
        assert HostedStudent.load(out).model == student.model


def test_other_data_does_not_go_on_with_a_job_that_was_begun(tmp_path):
    out = tmp_path / "desk.json"
    with emulator(echo) as server:
        with pytest.raises(ConfigError, match="is still queued"):
            trained(server, out, deadline_s=0)
        with pytest.raises(ConfigError, match="another training was begun"):
            trained(server, out, rows=examples(14))
        assert cancel(out, api_key="k")
        assert not cancel(out, api_key="k")
        assert trained(server, out, rows=examples(14)).model


@pytest.mark.parametrize(
    ("faults", "rows", "said"),
    [
        (TuningFaults(lost=1), 12, "no longer knows the job"),
        (TuningFaults(failure="The loss diverged."), 12, "failed: The loss diverged"),
        (TuningFaults(expired=2), 12, "No such file"),
        (TuningFaults(limited=99), 12, "Rate limit"),
        (TuningFaults(), 3, "must have at least 10"),
    ],
)
def test_what_goes_wrong_at_the_endpoint_is_told_in_one_line(
    tmp_path, monkeypatch, faults, rows, said
):
    monkeypatch.setattr(hosted, "RETRIES", 1)
    with (
        emulator(echo, tuning_faults=faults) as server,
        pytest.raises(ConfigError, match=said) as caught,
    ):
        trained(server, tmp_path / "desk.json", rows=examples(rows))
    assert "live goes on" in caught.value.hint
    assert not (tmp_path / "desk.json").exists()


def test_a_file_that_expired_is_uploaded_again(tmp_path):
    with emulator(echo, tuning_faults=TuningFaults(expired=1)) as server:
        assert trained(server, tmp_path / "desk.json").model


def test_wrong_use_is_told(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="no place"):
        tune(examples(), tmp_path / "x", model="m", terms=OWN)
    with pytest.raises(ConfigError, match="no API key"):
        tune(examples(), tmp_path / "x.json", model="m", terms=OWN)
    with pytest.raises(ConfigError, match="nothing to export"):
        tune([], tmp_path / "x.json", model="m", terms=OWN)
    (tmp_path / "x.job.json").write_text("{")
    with pytest.raises(CorruptError, match="damaged"):
        tune(examples(), tmp_path / "x.json", model="m", terms=OWN)
