"""What a first Docker tutorial teaches, word for word, with the official client and with ours."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.harness.engine import Engine


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A folder with test.js."""
    (tmp_path / "test.js").write_text('console.log("Hello World");\n')
    return tmp_path


def test_the_node_prompt(engine: Engine, node: str, client: str) -> None:
    with engine.terminal(client, "run", "-it", "--rm", node) as terminal:
        terminal.expect(r"Welcome to Node\.js v24")
        terminal.expect("> ")
        terminal.send_line(".help")
        terminal.expect(r"\.exit\s+Exit the REPL")
        terminal.send_line("6 * 7")
        terminal.expect("42")
        terminal.send_line(".exit")
        assert terminal.wait() == 0


def test_a_shell_in_the_node_image_has_no_curl(engine: Engine, node: str, client: str) -> None:
    with engine.terminal(client, "run", "-it", "--rm", "--entrypoint", "bash", node) as terminal:
        terminal.expect(r"root@[0-9a-f]{12}:/# ")
        terminal.send_line("curl")
        terminal.expect("bash: curl: command not found")
        terminal.expect(r"root@[0-9a-f]{12}:/# ")
        terminal.send_line("exit 7")
        assert terminal.wait() == 7


def test_a_script_that_is_not_in_the_image(engine: Engine, node: str, client: str) -> None:
    done = engine.run(client, "run", "-i", "--rm", node, "test.js", check=False)
    assert done.returncode == 1
    assert "Error: Cannot find module '/test.js'" in done.stderr


def test_a_terminal_needs_a_terminal(engine: Engine, node: str, client: str, script: Path) -> None:
    done = engine.run(
        client, "run", "-it", node, input_=(script / "test.js").read_bytes(), check=False
    )
    assert done.returncode == 1
    assert "the input device is not a TTY" in done.stderr
    assert not engine.docker("ps", "-aq")


def test_a_script_through_stdin(engine: Engine, node: str, client: str, script: Path) -> None:
    done = engine.run(client, "run", "-i", "--rm", node, input_=(script / "test.js").read_bytes())
    assert done.stdout == "Hello World\n"


def test_a_shared_folder_needs_the_working_directory(
    engine: Engine, node: str, client: str, script: Path
) -> None:
    share = f"{script}:/root/temp"
    lost = engine.run(client, "run", "-i", "--rm", "-v", share, node, "test.js", check=False)
    assert "Cannot find module '/test.js'" in lost.stderr
    found = engine.run(
        client, "run", "-i", "--rm", "-v", share, "-w", "/root/temp", node, "test.js"
    )
    assert found.stdout == "Hello World\n"


def test_listing_pruning_and_removing(engine: Engine, busybox: str, client: str) -> None:
    engine.run(client, "run", "--name", "first", busybox, "true")
    engine.run(client, "run", busybox, "sh", "-c", "exit 3", check=False)
    engine.run(client, "run", "-d", "--name", "third", busybox, "sleep", "60")
    table = engine.run(client, "ps", "--all").stdout
    header = table.splitlines()[0]
    assert header.split() == [
        "CONTAINER",
        "ID",
        "IMAGE",
        "COMMAND",
        "CREATED",
        "STATUS",
        "PORTS",
        "NAMES",
    ]
    assert re.search(r'busybox:latest\s+"true"\s+.* ago\s+Exited \(0\) .* ago\s+first', table)
    assert re.search(r"Exited \(3\) .* ago\s+[a-z]+_[a-z]+\s*$", table, re.MULTILINE)
    assert re.search(r"Up .*\s+third", table)
    running = engine.run(client, "ps").stdout
    assert "third" in running
    assert "first" not in running
    refused = engine.run(client, "container", "prune", input_="n\n", check=False)
    assert "WARNING! This will remove all stopped containers." in refused.stdout
    assert len(engine.docker("ps", "-aq").split()) == 3
    pruned = engine.run(client, "container", "prune", input_="y\n")
    assert "Deleted Containers:" in pruned.stdout
    assert re.search(r"Total reclaimed space: \S+B", pruned.stdout)
    assert len(engine.docker("ps", "-aq").split()) == 1
    busy = engine.run(client, "rm", "third", check=False)
    assert busy.returncode == 1
    assert "container is running: stop the container before removing or force remove" in busy.stderr
    assert engine.run(client, "rm", "-f", "third").stdout == "third\n"


def test_two_containers_do_not_see_each_other(engine: Engine, busybox: str) -> None:
    engine.docker("run", "-d", "--name", "one", busybox, "sh", "-c", "echo 1 > /only-one; sleep 60")
    engine.docker("run", "-d", "--name", "two", busybox, "sleep", "60")
    engine.docker("exec", "one", "sh", "-c", "until [ -s /only-one ]; do usleep 1000; done")
    missing = engine.run("docker", "exec", "two", "cat", "/only-one", check=False)
    assert missing.returncode == 1
    assert "No such file or directory" in missing.stderr
    assert engine.docker("exec", "one", "cat", "/only-one") == "1"
    assert "sh -c" not in engine.docker("exec", "two", "ps")
    engine.docker("rm", "-f", "one", "two")


def test_rm_leaves_nothing(engine: Engine, busybox: str, client: str) -> None:
    engine.run(
        client,
        "run",
        "--rm",
        busybox,
        "sh",
        "-c",
        "dd if=/dev/zero of=/file bs=1M count=3 2>/dev/null",
    )
    assert not engine.docker("ps", "-aq")
    assert not list((engine.root / "containers").glob("*"))
