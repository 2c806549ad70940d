"""Restart policies: who restarts, how long it waits."""

import pytest

from wherry.engine.containers.handle import Backoff
from wherry.engine.containers.restart_policy import (
    check_restart_policy,
    next_start,
    starts_with_engine,
)
from wherry.model.container import RestartPolicy
from wherry.model.errors import InvalidArgument


def decide(policy: RestartPolicy, backoff: Backoff, code: int = 1, **more: object) -> float | None:
    arguments = {"manually_stopped": False, "ran_s": 1.0, **more}
    return next_start(policy, backoff, exit_code=code, **arguments)  # type: ignore[arg-type]


def test_delays_double_up_to_a_minute_and_start_anew_after_a_long_run() -> None:
    policy = RestartPolicy(name="always")
    backoff = Backoff()
    delays = [decide(policy, backoff) for _ in range(12)]
    assert delays[:4] == [0.1, 0.2, 0.4, 0.8]
    assert delays[-1] == 60.0
    assert decide(policy, backoff, ran_s=10.0) == 0.1


@pytest.mark.parametrize(
    ("name", "code", "stopped", "restarts"),
    [
        ("no", 1, False, False),
        ("", 1, False, False),
        ("always", 0, False, True),
        ("unless-stopped", 0, False, True),
        ("unless-stopped", 0, True, False),
        ("on-failure", 0, False, False),
        ("on-failure", 1, False, True),
    ],
)
def test_policies(name: str, code: int, stopped: bool, restarts: bool) -> None:
    answer = decide(RestartPolicy(name=name), Backoff(), code, manually_stopped=stopped)
    assert (answer is not None) is restarts


def test_retries_are_counted() -> None:
    policy = RestartPolicy(name="on-failure", maximum_retry_count=2)
    backoff = Backoff()
    assert [decide(policy, backoff) is not None for _ in range(4)] == [True, True, False, False]


def test_a_stop_ends_the_policy() -> None:
    assert decide(RestartPolicy(name="always"), Backoff(cancelled=True)) is None


@pytest.mark.parametrize(
    ("name", "code", "stopped", "starts"),
    [
        ("no", 1, False, False),
        ("always", 0, True, True),
        ("unless-stopped", 0, True, False),
        ("unless-stopped", 137, False, True),
        ("on-failure", 0, False, False),
        ("on-failure", 2, False, True),
    ],
)
def test_when_the_engine_starts(name: str, code: int, stopped: bool, starts: bool) -> None:
    policy = RestartPolicy(name=name)
    found = starts_with_engine(policy, exit_code=code, manually_stopped=stopped, restart_count=0)
    assert found is starts


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        (
            RestartPolicy(name="foo"),
            (
                "invalid restart policy: unknown policy 'foo'; "
                "use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
            ),
        ),
        (
            RestartPolicy(name="always", maximum_retry_count=3),
            "invalid restart policy: maximum retry count can only be used with 'on-failure'",
        ),
        (
            RestartPolicy(name="on-failure", maximum_retry_count=-3),
            "invalid restart policy: maximum retry count cannot be negative",
        ),
    ],
)
def test_sentences(policy: RestartPolicy, sentence: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_restart_policy(policy)
    assert str(caught.value) == sentence
