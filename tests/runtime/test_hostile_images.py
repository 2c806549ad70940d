"""Images made to attack the runtime that prepares them."""

import os
from pathlib import Path

import pytest

from tests.runtime.bundle import Machine, docker_spec
from wherry.runtime.errors import LaunchError


def outcome(machine: Machine, document: dict, **options: object) -> str:
    """The errors of the container, or the record of why there is none."""
    try:
        return machine.run(document, **options).errors
    except LaunchError as error:
        return error.message


def poison(lower: Path) -> None:
    """Everything an interpreter might load by name in a foreign root."""
    evil = "open('/poisoned', 'w').close()\nraise SystemExit(66)\n"
    version = "python3.11"
    for folder in (
        f"usr/lib/{version}",
        f"usr/local/lib/{version}",
        f"usr/lib/{version}/site-packages",
        "wherry",
        "wherry/runtime",
    ):
        (lower / folder).mkdir(parents=True, exist_ok=True)
        for name in ("traceback", "linecache", "pwd", "grp", "socket", "encodings", "errors"):
            (lower / folder / f"{name}.py").write_text(evil)
    for library in ("libnss_files.so.2", "libnss_compat.so.2", "libc.so.6"):
        for folder in ("lib", "lib64", "usr/lib", "lib/x86_64-linux-gnu"):
            (lower / folder).mkdir(parents=True, exist_ok=True)
            (lower / folder / library).write_bytes(b"\x7fELF poisoned")
    (lower / "etc/nsswitch.conf").write_text("passwd: files evil\ngroup: evil\n")
    gconv = lower / "usr/lib/x86_64-linux-gnu/gconv"
    gconv.mkdir(parents=True)
    (gconv / "gconv-modules").write_text("module INTERNAL UTF-8// EVIL 1\n")


@pytest.mark.parametrize(
    "edit",
    [
        {},
        {"user": {"username": "app"}},
        {"user": {"username": "ghost"}},
        {"args": ["nope"]},
        {"args": ["/etc"]},
        {"args": ["/usr/lib/libc.so.6"]},
        {"cwd": "/etc/passwd/x"},
        {"cwd": "/\u00e4\udc80"},
        {"rlimits": [{"type": "RLIMIT_NOSUCH", "soft": 1, "hard": 1}]},
    ],
)
def test_poisoned_python_and_nss(machine: Machine, edit: dict) -> None:
    poison(machine.lower)
    root = machine.overlay()
    document = docker_spec(["true"])
    document["process"].update(edit)
    assert "import" not in outcome(machine, document, root=root)
    assert not Path(root.upper, "poisoned").exists()
    assert not Path("/poisoned").exists()


def test_passwd_a_fifo(machine: Machine) -> None:
    (machine.lower / "etc/passwd").unlink()
    os.mkfifo(machine.lower / "etc/passwd")
    assert machine.shell("echo fine").output == "fine\n"


def test_passwd_endless(machine: Machine) -> None:
    os.truncate(machine.lower / "etc/passwd", 1 << 40)
    document = docker_spec(["id", "-u"])
    document["process"]["user"]["username"] = "app"
    assert machine.run(document).output == "1000\n"


def test_passwd_a_link_to_a_device_or_into_proc(machine: Machine) -> None:
    for target in ("/dev/zero", "/proc/self/mem", "/proc/1/root/etc/passwd", "/dev/stdin"):
        passwd = machine.lower / "etc/passwd"
        passwd.unlink()
        passwd.symlink_to(target)
        assert machine.shell("echo fine").output == "fine\n"


@pytest.mark.parametrize("target", ["/etc", "../../../../../../tmp", "/proc/self/fd/3"])
def test_dev_is_a_link(machine: Machine, target: str) -> None:
    before = set(os.listdir("/dev"))
    (machine.lower / "dev").rmdir()
    (machine.lower / "dev").symlink_to(target)
    outcome(machine, docker_spec(["true"]))
    assert set(os.listdir("/dev")) == before


def test_dev_null_of_the_image_is_no_cover(machine: Machine) -> None:
    """CVE-2025-31133: masks must be bound from the real null device."""
    (machine.lower / "dev/null").symlink_to("/proc/sys/kernel/core_pattern")
    assert machine.shell("cat /proc/keys").output == ""
    document = docker_spec(["cat", "/proc/keys"])
    document["mounts"] = [m for m in document["mounts"] if not m["destination"].startswith("/dev")]
    with pytest.raises(LaunchError) as caught:
        machine.start(document)
    assert caught.value.step in {"device", "mask"}


def test_an_image_full_of_mount_targets(machine: Machine) -> None:
    for name in ("proc", "sys", "dev"):
        for inner in ("a", "b"):
            (machine.lower / name / inner).mkdir()
    assert machine.shell("ls /proc/a /sys/a /dev/a").code != 0


def test_entry_point_is_our_own_executable(machine: Machine) -> None:
    result = machine.run(docker_spec(["/proc/self/exe", "-c", "print(open('/etc/passwd'))"]))
    # Python without its library ends with an error; what counts is that nothing of the host opens.
    assert result.code != 0
    assert not Path("/poisoned").exists()


def test_the_session_keyring_is_not_shared(machine: Machine) -> None:
    """Joined by name, one keyring would hold the keys of all containers: there is one more for each."""
    containers = [machine.start(docker_spec(["sh", "-c", "echo up; sleep 100"])) for _ in range(3)]
    for container in containers:
        assert container.read_line() == "up\n"
    document = docker_spec(["grep", "-c", "keyring *_ses: ", "/proc/keys"])
    document["linux"]["maskedPaths"] = []
    assert int(machine.run(document).output) >= 4


@pytest.mark.parametrize("number", [*range(3, 24)])
def test_the_working_directory_is_no_leaked_descriptor(machine: Machine, number: int) -> None:
    """CVE-2024-21626: what /proc/self/fd/N reaches is the container's own."""
    document = docker_spec(
        ["sh", "-c", "ls ../../../../../../../../work ../../../../../../../root"]
    )
    document["process"]["cwd"] = f"/proc/self/fd/{number}"
    assert "wherry" not in outcome(machine, document)
    try:
        result = machine.run(document)
    except LaunchError:
        return
    assert result.output.strip() in {"", "../../../../../../../root:"}


def test_masks_cover_the_proc_that_is_seen(machine: Machine) -> None:
    document = docker_spec(["cat", "/proc/keys"])
    document["mounts"].insert(
        1, {"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"]}
    )
    assert machine.run(document).output == ""
