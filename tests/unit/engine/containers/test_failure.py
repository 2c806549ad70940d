"""What init reports becomes what Docker's client greps for."""

import errno
from dataclasses import dataclass

import pytest

from wherry.engine.containers.failure import container_failure, exec_failure

CREATE = (
    "failed to create task for container: failed to create shim task: OCI runtime create failed: "
    "runc create failed: unable to start container process: error during container init: "
)
EXEC = "OCI runtime exec failed: exec failed: unable to start container process: "


@dataclass
class Failure:
    step: str
    object: str
    errno: int
    detail: str


@pytest.mark.parametrize(
    ("failure", "sentence", "code"),
    [
        (
            Failure("exec", "x", errno.ENOENT, 'exec: "x": executable file not found in $PATH'),
            CREATE + 'exec: "x": executable file not found in $PATH',
            127,
        ),
        (
            Failure("exec", "/x", errno.EACCES, 'exec: "/x": permission denied'),
            CREATE + 'exec: "/x": permission denied',
            126,
        ),
        (
            Failure("exec", "/etc", errno.EISDIR, 'exec: "/etc": is a directory'),
            CREATE + 'exec: "/etc": is a directory: permission denied',
            126,
        ),
        (
            Failure("user", "nope", 0, "unable to find user nope: no matching entries"),
            "unable to find user nope: no matching entries",
            128,
        ),
        (
            Failure("hostname", "", errno.EINVAL, "Invalid argument"),
            CREATE + "hostname: invalid argument",
            128,
        ),
    ],
)
def test_containers(failure: Failure, sentence: str, code: int) -> None:
    error = container_failure(failure)
    assert (str(error), error.exit_code) == (sentence, code)


def test_execs() -> None:
    failure = Failure("exec", "x", errno.ENOENT, 'exec: "x": executable file not found in $PATH')
    error = exec_failure(failure)
    assert str(error) == EXEC + 'exec: "x": executable file not found in $PATH'
    assert error.exit_code == 127
