"""What cannot be started: the record of init, Docker's sentences, and nothing left behind."""

import errno
import os
import stat

import pytest

from tests.runtime.bundle import Machine, docker_spec, need_controllers
from wherry.runtime.errors import LaunchError


def failure(machine: Machine, document: dict) -> LaunchError:
    with pytest.raises(LaunchError) as caught:
        machine.start(document)
    assert machine.cgroup is not None
    assert not machine.cgroup.exists()
    return caught.value


@pytest.mark.parametrize(
    ("program", "number", "message"),
    [
        ("nope", errno.ENOENT, 'exec: "nope": executable file not found in $PATH'),
        ("/nope", errno.ENOENT, 'exec: "/nope": stat /nope: no such file or directory'),
        ("/etc", errno.EISDIR, 'exec: "/etc": is a directory'),
        ("/etc/passwd", errno.EACCES, 'exec: "/etc/passwd": permission denied'),
        ("", errno.ENOENT, 'exec: "": executable file not found in $PATH'),
    ],
)
def test_program(machine: Machine, program: str, number: int, message: str) -> None:
    error = failure(machine, docker_spec([program]))
    assert (error.step, error.object, error.errno) == ("exec", program, number)
    assert error.message == message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x7fELFrubbish", "exec /bad: exec format error\n"),
        (b"#!/no/such/interpreter\n", "exec /bad: no such file or directory\n"),
    ],
)
def test_a_program_that_cannot_run_has_started(
    machine: Machine, content: bytes, words: str
) -> None:
    bad = machine.lower / "bad"
    bad.write_bytes(content)
    bad.chmod(0o755)
    result = machine.run(docker_spec(["/bad"]))
    assert (result.code, result.errors) == (255, words)


def test_arguments_beyond_the_kernels_limit(machine: Machine) -> None:
    result = machine.run(docker_spec(["/bin/true", "x" * (1 << 18)]))
    assert (result.code, result.errors) == (255, "exec /bin/true: argument list too long\n")


def test_a_large_environment_is_fine(machine: Machine) -> None:
    document = docker_spec(["sh", "-c", "env | wc -c"])
    document["process"]["env"] += [f"V{i}={'x' * 1000}" for i in range(220)]
    assert int(machine.run(document).output) > 220_000


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ("ghost", "unable to find user ghost: no matching entries in passwd file"),
        ("0:ghost", "unable to find group ghost: no matching entries in group file"),
    ],
)
def test_user(machine: Machine, user: str, message: str) -> None:
    document = docker_spec(["true"])
    document["process"]["user"]["username"] = user
    error = failure(machine, document)
    assert (error.step, error.message) == ("user", message)


def test_working_directory_over_a_file(machine: Machine) -> None:
    document = docker_spec(["true"])
    document["process"]["cwd"] = "/etc/passwd/x"
    error = failure(machine, document)
    assert (error.step, error.errno) == ("cwd", errno.ENOTDIR)
    document["process"]["cwd"] = "/etc/passwd"
    error = failure(machine, document)
    assert error.message == "Cannot mkdir: /etc/passwd is not a directory"


def test_file_over_a_directory(machine: Machine, tmp_path) -> None:
    source = tmp_path / "file"
    source.touch()
    document = docker_spec(["true"])
    document["mounts"].append(
        {"destination": "/etc", "type": "bind", "source": str(source), "options": ["rbind"]}
    )
    error = failure(machine, document)
    assert (error.step, error.object, error.errno) == ("mount", "/etc", errno.ENOTDIR)
    assert error.message.endswith("not a directory")


def test_missing_bind_source(machine: Machine, tmp_path) -> None:
    document = docker_spec(["true"])
    document["mounts"].append(
        {"destination": "/x", "type": "bind", "source": f"{tmp_path}/no", "options": ["rbind"]}
    )
    assert failure(machine, document).errno == errno.ENOENT


@pytest.mark.parametrize("path", ["proc", "sys"])
def test_proc_and_sys_must_be_ordinary_directories(machine: Machine, path: str) -> None:
    (machine.lower / path).rmdir()
    (machine.lower / path).symlink_to("tmp")
    error = failure(machine, docker_spec(["true"]))
    assert error.step == "mount"
    assert "must be mounted on ordinary directory" in error.message


def test_unknown_sysctl(machine: Machine) -> None:
    document = docker_spec(["true"])
    document["linux"]["sysctl"] = {"net.no.such": "1"}
    error = failure(machine, document)
    assert (error.step, error.object, error.errno) == ("sysctl", "net.no.such", errno.ENOENT)


def test_sysctl_cannot_leave_proc_sys(machine: Machine) -> None:
    document = docker_spec(["true"])
    for name, step in (("../../etc/passwd", "plan"), ("net/../../../etc/passwd", "sysctl")):
        document["linux"]["sysctl"] = {name: "1"}
        assert failure(machine, document).step == step


def test_memory_limit_that_the_kernel_refuses(machine: Machine) -> None:
    need_controllers("cpuset")
    document = docker_spec(["true"])
    document["linux"]["resources"]["cpu"] = {"cpus": "4095"}
    assert failure(machine, document).step == "cgroup"


def test_bad_configuration(machine: Machine) -> None:
    document = docker_spec(["true"])
    document["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ZOO"}
    assert failure(machine, document).step == "plan"


def test_closed_pipes_are_not_needed(machine: Machine) -> None:
    document = docker_spec(["sh", "-c", "yes | head -n 1"])
    result = machine.run(document)
    assert (result.code, result.output, result.errors) == (0, "y\n", "")


def test_signal_dispositions_are_default_even_when_ours_are_not(machine: Machine) -> None:
    result = machine.run(docker_spec(["grep", "Sig", "/proc/1/status"]))
    assert "SigIgn:\t0000000000000000" in result.output


def test_standard_streams_belong_to_the_user(machine: Machine) -> None:
    document = docker_spec(["sh", "-c", "echo again > /dev/stdout; stat -L -c %u /dev/stderr"])
    document["process"]["user"]["username"] = "app"
    result = machine.run(document)
    assert (result.output, result.code) == ("again\n1000\n", 0)


def test_the_working_directory_is_made(machine: Machine) -> None:
    root = machine.overlay()
    document = docker_spec(["pwd"])
    document["process"]["cwd"] = "/a/b"
    assert machine.run(document, root=root).output == "/a/b\n"
    assert stat.S_IMODE(os.stat(f"{root.upper}/a/b").st_mode) == 0o755


def test_no_process_can_be_made(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(errno.EAGAIN, "clone3: Resource temporarily unavailable")

    monkeypatch.setattr("wherry.kernel.syscalls.clone3", refuse)
    error = failure(machine, docker_spec(["true"]))
    assert (error.step, error.errno) == ("clone", errno.EAGAIN)


def test_a_cgroup_of_others_is_left_alone(machine: Machine) -> None:
    first = machine.start(docker_spec(["sh", "-c", "echo up; exec sleep 100"]))
    assert first.read_line() == "up\n"
    shared = machine.cgroup
    machine.new_cgroup = lambda: shared
    with pytest.raises(LaunchError):
        machine.start(docker_spec(["nope"]))
    assert shared.processes() == [first.launched.pid]
