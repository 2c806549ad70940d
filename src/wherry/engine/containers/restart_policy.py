"""When a container that has ended is started again, and after how long (moby daemon/restartmanager). Pure."""

from __future__ import annotations

from wherry.engine.containers.handle import Backoff
from wherry.model.container import RestartPolicy
from wherry.model.errors import InvalidArgument

_FIRST_DELAY_S = 0.1
_LAST_DELAY_S = 60.0
_SETTLED_S = 10.0  # a run of this length forgets the delays before it


def check_restart_policy(policy: RestartPolicy) -> None:
    """Raises InvalidArgument with Docker's sentence."""
    if policy.name not in {"", "no", "always", "unless-stopped", "on-failure"}:
        raise InvalidArgument(
            f"invalid restart policy: unknown policy '{policy.name}'; "
            "use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )
    if policy.maximum_retry_count and policy.name != "on-failure":
        if policy.maximum_retry_count < 0:
            raise InvalidArgument(
                "invalid restart policy: maximum retry count can only be used with 'on-failure' and cannot be negative"
            )
        raise InvalidArgument(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'"
        )
    if policy.maximum_retry_count < 0:
        raise InvalidArgument("invalid restart policy: maximum retry count cannot be negative")


def is_restarting_policy(policy: RestartPolicy) -> bool:
    """Whether the policy ever starts a container again."""
    return policy.name not in {"", "no"}


def next_start(
    policy: RestartPolicy,
    backoff: Backoff,
    *,
    exit_code: int,
    manually_stopped: bool,
    ran_s: float,
) -> float | None:
    """Seconds until the next start, or None for no start; notes the failure in `backoff`."""
    if backoff.cancelled:
        return None
    if ran_s >= _SETTLED_S:
        backoff.delay_s = 0.0
    wanted = {
        "always": True,
        "unless-stopped": not manually_stopped,
        "on-failure": exit_code != 0
        and (policy.maximum_retry_count == 0 or backoff.failures < policy.maximum_retry_count),
    }.get(policy.name, False)
    if not wanted:
        return None
    backoff.failures += 1
    backoff.delay_s = min(backoff.delay_s * 2, _LAST_DELAY_S) if backoff.delay_s else _FIRST_DELAY_S
    return backoff.delay_s


def starts_with_engine(
    policy: RestartPolicy, *, exit_code: int, manually_stopped: bool, restart_count: int
) -> bool:
    """Whether the container is started when the engine starts (`always` even after a `docker stop`)."""
    match policy.name:
        case "always":
            return True
        case "unless-stopped":
            return not manually_stopped
        case "on-failure":
            limit = policy.maximum_retry_count
            return exit_code != 0 and not manually_stopped and (not limit or restart_count < limit)
        case _:
            return False
