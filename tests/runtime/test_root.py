"""Roots: overlays of many layers by every way there is to mount them, and plain directories."""

import os
from pathlib import Path

import pytest

from tests.runtime.bundle import Machine, docker_spec
from wherry.runtime.errors import LaunchError, StepError
from wherry.runtime.root import DirectoryRoot, OverlayRoot, open_root


@pytest.fixture(params=["", "6.1"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param:
        monkeypatch.setenv("WHERRY_ASSUME_KERNEL", request.param)
    return str(request.param)


def layers(machine: Machine, count: int) -> tuple[str, ...]:
    """`count` layers with long names, each with a file of its own and one that all have."""
    paths = []
    for number in range(count - 1):
        path = machine.scratch / f"{'a, long: name ' * 3}{number}"
        path.mkdir()
        (path / f"f{number}").touch()
        (path / "top").write_text(str(number))
        paths.append(str(path))
    return (*paths, str(machine.lower))


@pytest.mark.parametrize("count", [1, 2, 40, 125])
def test_overlay_of_layers(machine: Machine, kernel: str, count: int) -> None:
    writable = machine.overlay()
    root = OverlayRoot(layers(machine, count), writable.upper, writable.work, volatile=True)
    document = docker_spec(["sh", "-c", "cat top; ls -d f* | wc -l; stat -c %d:%d / /bin /top"])
    result = machine.run(document, root=root)
    if count == 1:
        assert result.output.split()[0] == "0"
        return
    assert result.output.split()[0] == f"0{count - 1}"
    assert os.getcwd() == str(Path.cwd())


def test_a_long_upper_directory_with_commas(machine: Machine, kernel: str) -> None:
    base = machine.scratch
    for _ in range(3):
        base = base / ("upper, " * 13)
    (base / "u").mkdir(parents=True)
    (base / "w").mkdir()
    root = OverlayRoot(layers(machine, 2), str(base / "u"), str(base / "w"))
    machine.run(docker_spec(["touch", "/x"]), root=root)
    assert (base / "u/x").exists()


def test_read_only_overlay(machine: Machine, kernel: str) -> None:
    result = machine.run(
        docker_spec(["sh", "-c", "touch /x || echo no"]), root=OverlayRoot(layers(machine, 3))
    )
    assert result.output == "no\n"


def test_read_only_overlay_of_one_layer(machine: Machine, kernel: str) -> None:
    result = machine.run(
        docker_spec(["sh", "-c", "touch /x || echo no"]), root=OverlayRoot((str(machine.lower),))
    )
    assert result.output == "no\n"
    (machine.lower / "host-can").touch()


def test_too_many_layers() -> None:
    with pytest.raises(StepError, match=r"^max depth exceeded$"):
        open_root(OverlayRoot(("/",) * 126, "/u", "/w"))


def test_missing_layer(machine: Machine, kernel: str) -> None:
    with pytest.raises(LaunchError) as caught:
        machine.start(docker_spec(["true"]), root=OverlayRoot(("/no/such", str(machine.lower))))
    assert (caught.value.step, caught.value.errno) == ("root", 2)


def test_plain_directory(machine: Machine) -> None:
    result = machine.run(
        docker_spec(["sh", "-c", "touch /made; cat /proc/self/mountinfo"]),
        root=DirectoryRoot(str(machine.lower)),
    )
    assert (machine.lower / "made").exists()
    assert result.output.count(" / / ") == 0


def test_files_of_all_layers_share_a_device(machine: Machine, kernel: str) -> None:
    writable = machine.overlay()
    root = OverlayRoot(layers(machine, 3), writable.upper, writable.work)
    output = machine.run(docker_spec(["stat", "-c", "%d", "/", "/top", "/bin"]), root=root).output
    assert len(set(output.split())) == 1
