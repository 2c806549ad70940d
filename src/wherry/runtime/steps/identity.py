"""What the container is called and how its kernel settings are: host name, domain name, sysctls."""

from __future__ import annotations

import _socket
import os

from wherry.kernel import syscalls
from wherry.runtime.context import Context
from wherry.runtime.errors import StepError, reason
from wherry.runtime.steps import Step
from wherry.runtime.steps.paths import open_beneath


class Hostname(Step):
    """sethostname in the new uts namespace."""

    __slots__ = ("hostname",)
    name = "hostname"

    def __init__(self, hostname: str) -> None:
        self.hostname = hostname

    def describe(self) -> str:
        return f"set the host name to {self.hostname}"

    def apply(self, context: Context) -> None:  # noqa: ARG002 - the interface's
        try:
            _socket.sethostname(self.hostname)
        except OSError as error:
            text = f"sethostname: {reason(error.errno or 0)}"
            raise StepError(self.hostname, text, error.errno or 0) from error


class Domainname(Step):
    """setdomainname in the new uts namespace."""

    __slots__ = ("domainname",)
    name = "domainname"

    def __init__(self, domainname: str) -> None:
        self.domainname = domainname

    def describe(self) -> str:
        return f"set the domain name to {self.domainname}"

    def apply(self, context: Context) -> None:  # noqa: ARG002 - the interface's
        syscalls.setdomainname(os.fsencode(self.domainname))


class Sysctl(Step):
    """linux.sysctl, written to the container's own proc, beneath what makes it read-only."""

    __slots__ = ("values",)
    name = "sysctl"
    ahead = True
    late = False

    def __init__(self, values: dict[str, str]) -> None:
        self.values = values

    def describe(self) -> str:
        return f"set {', '.join(self.values)}"

    def apply(self, context: Context) -> None:
        if context.proc_sys < 0:
            raise StepError("/proc", "sysctls need a proc file system at /proc", 2)
        for name, value in self.values.items():
            # As sysctl(8): a name with slashes keeps its dots.
            path = name if "/" in name else name.replace(".", "/")
            try:
                fd = open_beneath(context.proc_sys, path, os.O_WRONLY)
            except OSError as error:
                why = reason(error.errno or 0)
                text = f"open sysctl {name} file: open /proc/sys/{path}: {why}"
                raise StepError(name, text, error.errno or 0) from error
            try:
                os.write(fd, os.fsencode(value))
            except OSError as error:
                why = reason(error.errno or 0)
                text = f'failed to write sysctl {name} = "{value}": write /proc/sys/{path}: {why}'
                raise StepError(name, text, error.errno or 0) from error
            finally:
                os.close(fd)
