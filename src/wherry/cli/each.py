"""Doing one thing to each of several nouns, as Docker's verbs do: all at once, names in order."""

from __future__ import annotations

from wherry.cli.errors import CommandFailed, sentence_of
from wherry.cli.output import line_error, line_out
from wherry.client.errors import ApiError, CannotConnect, ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

AT_ONCE = 50


def for_each(
    refs: Sequence[str],
    action: Callable[[str], object],
    *,
    show: bool = True,
    may_be_gone: bool = False,
) -> int:
    """Acts on each, prints the names of those that worked; 1 if any failed, but for what `may_be_gone`."""
    failures = run_all(refs, action)
    failed = False
    for ref, failure in zip(refs, failures, strict=True):
        if failure is None and show:
            line_out(ref)
    for failure in failures:
        if isinstance(failure, CannotConnect):
            raise CommandFailed(sentence_of(failure))
        if failure is not None:
            line_error(sentence_of(failure))
            gone = isinstance(failure, ApiError) and failure.status == 404
            failed = failed or not (gone and may_be_gone)
    return 1 if failed else 0


def run_all(refs: Sequence[str], action: Callable[[str], object]) -> list[ClientError | None]:
    """Acts on all at once and gives what each one failed with."""
    failures: list[ClientError | None] = [None] * len(refs)

    def act(at: int) -> None:
        try:
            action(refs[at])
        except ClientError as exc:
            failures[at] = exc

    if len(refs) == 1:
        act(0)
        return failures
    import _thread

    for start in range(0, len(refs), AT_ONCE):
        locks = []
        for at in range(start, min(start + AT_ONCE, len(refs))):
            lock = _thread.allocate_lock()
            lock.acquire()
            locks.append(lock)
            _thread.start_new_thread(_run_then_release, (act, at, lock))
        for lock in locks:
            lock.acquire()
    return failures


def _run_then_release(act: Callable[[int], None], at: int, lock: object) -> None:
    try:
        act(at)
    finally:
        release = getattr(lock, "release", None)
        if release is not None:
            release()
