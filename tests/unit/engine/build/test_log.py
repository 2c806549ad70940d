"""The log of a build's record: what a step showed of a secret is not in it, wherever it is cut."""

from __future__ import annotations

import pytest

from wherry.engine.build.log import MAX_LOG_BYTES, BuildLog, readable
from wherry.engine.build.records import BuildEvent, StepOutput

SECRET = b"the secret words"


@pytest.mark.parametrize("before", [0, MAX_LOG_BYTES - 5, MAX_LOG_BYTES - 1, MAX_LOG_BYTES])
def test_no_part_of_a_secret_is_kept(before: int) -> None:
    passed: list[BuildEvent] = []
    log = BuildLog(passed.append, (SECRET,))
    pieces = (bytes(before), SECRET[:4], SECRET[4:], b"after")
    for data in pieces:
        log.report(StepOutput(number=0, stream=1, data=data))
    assert len(passed) == len(pieces)
    assert "the" not in log.text()
    assert len(log.text()) <= MAX_LOG_BYTES


def test_names_that_are_no_utf8_can_be_recorded() -> None:
    assert readable("caf\udce9: not found") == "caf\ufffd: not found"
