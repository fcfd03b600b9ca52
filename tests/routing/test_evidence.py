"""What a draft's values are held against: the question, and whatever else the model was shown."""

import json

import pytest

from agentmesh.routing import Draft, DraftCall, Judged
from agentmesh.routing.verifier import evidence


@pytest.mark.parametrize(
    ("value", "found"),
    [
        *((value, True) for value in ("w17", 2, 1231.5, 17, "\u00e9t\u00e9")),
        *((value, False) for value in ("W18", "", 231.5, 1, 31.5, 1231, 3)),
    ],
)
def test_a_value_is_found_whole_and_however_it_is_written(value, found):
    call = DraftCall("1", "f", json.dumps({"a": value}))
    seen = "Found: W17, 2 parcels, 1,231.50 EUR \u00c9T\u00c9"
    row = Judged("it?", Draft("", (call,)), {}, seen)
    assert evidence(row)["share invented"] == (not found)
