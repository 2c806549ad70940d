"""Terminals: the pty of the container's own devpts."""

import os

from tests.runtime.bundle import Machine, docker_spec
from wherry.kernel.tty import set_window_size


def test_terminal(machine: Machine) -> None:
    document = docker_spec(
        ["sh", "-c", "tty; stty size; stat -c '%u %g %a' /dev/pts/0; test -c /dev/console && env"]
    )
    document["process"].update(terminal=True, consoleSize={"height": 24, "width": 80})
    lines = machine.run(document).output.split("\r\n")
    assert lines[:3] == ["/dev/pts/0", "24 80", "0 5 620"]
    assert "TERM=xterm" in lines


def test_window_size_reaches_the_program(machine: Machine) -> None:
    script = "trap 'stty size; exit 7' WINCH; echo up; while :; do sleep 0.05; done"
    document = docker_spec(["sh", "-c", script])
    document["process"]["terminal"] = True
    container = machine.start(document)
    assert container.read_line() == "up\r\n"
    set_window_size(container.launched.console, 50, 132)
    result = container.wait()
    assert (result.output.strip(), result.code) == ("50 132", 7)


def test_control_c(machine: Machine) -> None:
    document = docker_spec(["sh", "-c", "trap 'exit 3' INT; echo up; while :; do sleep 0.05; done"])
    document["process"]["terminal"] = True
    container = machine.start(document)
    assert container.read_line() == "up\r\n"
    os.write(container.launched.console, b"\x03")
    assert container.wait().code == 3
