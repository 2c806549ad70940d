"""The steps of a launch, a file per concern; `Step` is their interface.

A step is planned from the specification alone (`wherry.runtime.plan`), says what it will do (`describe`),
and does it in up to three places, in this order:

- `prepare`: in the launching process, in the host's namespaces, before clone3: opens what comes from the
  host, as descriptors.
- `detach`: in init, in the new namespaces, while the host's tree is still there. Only what needs that: the
  kernel refuses a new proc or sysfs in a user namespace that has none in sight.
- `apply`: in init, when the root is the container's. Imports nothing, resolves nothing by the host's paths.

A start may be made in two parts (`wherry.runtime.staging`): what is the same for every container of a class
first, in a root that is empty, and the rest when the container is known. A step says in which it belongs.
"""

from __future__ import annotations

from wherry.runtime.context import Context


class Step:
    """One thing to do; `name` is the `step` of a failure's record."""

    __slots__ = ()
    name = "step"
    ahead = False  # done before the container is known
    late = True  # done when it is known

    def describe(self) -> str:
        """One line for people: what it will do to which object."""
        raise NotImplementedError

    def prepare(self, context: Context) -> None:
        """In the launching process, before clone3."""

    def detach(self, context: Context) -> None:
        """In init, before the host's tree goes."""

    def apply(self, context: Context) -> None:
        """In init, inside the root."""
