"""The OCI specification, in the meaning of what dockerd 28.5 gives to runc for the same request."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from wherry.engine.containers.merge import split_command
from wherry.engine.containers.security import AVAILABLE, DEFAULT_CAPABILITIES
from wherry.engine.containers.spec import SpecInputs, build_spec
from wherry.lib.jsonvalue import JsonObject, get_list, get_object, get_objects, get_strings
from wherry.model.container import (
    Container,
    ContainerConfig,
    ContainerId,
    HostConfig,
    Mount,
    MountPoint,
    TmpfsOptions,
    Ulimit,
)
from wherry.model.errors import EngineError, InvalidArgument, StartFailed
from wherry.runtime.spec import parse_spec

ID = ContainerId("47b29f5f9b9c" + "0" * 52)
FOLDER = Path("/var/lib/x") / ID


def container(
    config: ContainerConfig | None = None, points: tuple[MountPoint, ...] = (), **host: object
) -> Container:
    config = config or ContainerConfig(cmd=("sleep", "300"))
    config = replace(config, hostname=config.hostname or ID[:12])
    host = {"ipc_mode": "private", "cgroupns_mode": "host", "shm_size": 64 << 20, **host}
    path, args = split_command(config)
    return Container(
        id=ID,
        name="box",
        created="",
        image_id="",
        image_ref="busybox",
        path=path,
        args=args,
        config=config,
        host_config=HostConfig(network_mode=str(host.pop("network_mode", "bridge")), **host),  # type: ignore[arg-type]
        mount_points=points,
    )


def build(record: Container | None = None, **more: object) -> JsonObject:
    inputs = SpecInputs(
        container=record or container(),
        folder=FOLDER,
        cgroup_path=f"/docker/{ID}",
        **more,  # type: ignore[arg-type]
    )
    document = build_spec(inputs)
    parse_spec(document)  # the runtime can read all of it
    return document


def linux(document: JsonObject) -> JsonObject:
    return get_object(document, "linux")


def process(document: JsonObject) -> JsonObject:
    return get_object(document, "process")


def mount_at(document: JsonObject, place: str) -> Mapping[str, object]:
    found = [m for m in get_objects(document, "mounts") if m["destination"] == place]
    assert len(found) == 1, f"{place}: {found}"
    return found[0]


def options_at(document: JsonObject, place: str) -> Sequence[object]:
    options = mount_at(document, place)["options"]
    assert isinstance(options, list)
    return options


def kinds(document: JsonObject) -> list[object]:
    return [item["type"] for item in get_objects(linux(document), "namespaces")]


def test_process() -> None:
    found = process(build())
    assert found["args"] == ["sleep", "300"]
    assert found["env"] == [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOSTNAME=47b29f5f9b9c",
    ]
    assert found["cwd"] == "/"
    assert found["oomScoreAdj"] == 0
    assert found["noNewPrivileges"] is False
    assert get_strings(get_object(found, "capabilities"), "bounding") == DEFAULT_CAPABILITIES
    assert "ambient" not in get_object(found, "capabilities")


def test_a_terminal_adds_term_and_its_size() -> None:
    record = container(ContainerConfig(cmd=("sh",), tty=True), console_size=(30, 100))
    found = process(build(record))
    assert "TERM=xterm" in get_strings(found, "env")
    assert found["consoleSize"] == {"height": 30, "width": 100}


def test_env_of_the_config_wins() -> None:
    env = ("PATH=/bin", "X=1", "HOSTNAME=other")
    found = process(build(container(ContainerConfig(cmd=("sh",), env=env))))
    assert found["env"] == ["PATH=/bin", "HOSTNAME=other", "X=1"]


def test_default_mounts() -> None:
    document = build()
    assert [(m["destination"], m["type"]) for m in get_objects(document, "mounts")] == [
        ("/proc", "proc"),
        ("/dev", "tmpfs"),
        ("/dev/pts", "devpts"),
        ("/sys", "sysfs"),
        ("/sys/fs/cgroup", "cgroup"),
        ("/dev/mqueue", "mqueue"),
        ("/dev/shm", "tmpfs"),
        ("/etc/resolv.conf", "bind"),
        ("/etc/hostname", "bind"),
        ("/etc/hosts", "bind"),
    ]
    assert "ro" in options_at(document, "/sys")
    assert "size=67108864" in options_at(document, "/dev/shm")
    assert mount_at(document, "/etc/hosts")["source"] == str(FOLDER / "hosts")


def test_default_namespaces_paths_and_sysctls() -> None:
    document = build()
    assert kinds(document) == ["mount", "network", "uts", "pid", "ipc"]
    assert "/proc/kcore" in get_strings(linux(document), "maskedPaths")
    assert "/proc/sys" in get_strings(linux(document), "readonlyPaths")
    assert linux(document)["seccomp"] == {"profile": "default"}
    assert linux(document)["sysctl"] == {
        "net.ipv4.ip_unprivileged_port_start": "0",
        "net.ipv4.ping_group_range": "0 2147483647",
    }
    assert linux(document)["cgroupsPath"] == f"/docker/{ID}"


@pytest.mark.parametrize(
    ("host", "missing", "present"),
    [
        ({"network_mode": "host"}, "network", ""),
        ({"pid_mode": "host"}, "pid", ""),
        ({"ipc_mode": "host"}, "ipc", ""),
        ({"uts_mode": "host"}, "uts", ""),
        ({"cgroupns_mode": "private"}, "", "cgroup"),
    ],
)
def test_namespaces_of_the_host(host: dict[str, object], missing: str, present: str) -> None:
    found = kinds(build(container(**host)))
    assert missing not in found
    assert not present or present in found


def test_the_hosts_network_has_no_sysctls_and_its_uts_no_host_name() -> None:
    assert "sysctl" not in linux(build(container(network_mode="host")))
    assert "hostname" not in build(container(uts_mode="host"))


def test_joined_namespaces() -> None:
    document = build(
        network_ns="/proc/7/ns/net",
        ipc_ns="/proc/7/ns/ipc",
        pid_ns="/proc/7/ns/pid",
        shm_source="/s",
    )
    paths = {n["type"]: n.get("path") for n in get_objects(linux(document), "namespaces")}
    assert paths["network"] == "/proc/7/ns/net"
    assert paths["pid"] == "/proc/7/ns/pid"
    assert mount_at(document, "/dev/shm")["source"] == "/s"
    assert "sysctl" not in linux(document)


def test_privileged() -> None:
    document = build(container(privileged=True), device_rules=[{"allow": True, "access": "rwm"}])
    assert linux(document)["maskedPaths"] == []
    assert linux(document)["readonlyPaths"] == []
    assert "seccomp" not in linux(document)
    assert "rw" in options_at(document, "/sys")
    assert get_strings(get_object(process(document), "capabilities"), "bounding") == AVAILABLE


def test_capabilities() -> None:
    record = container(cap_drop=("ALL",), cap_add=("net_admin", "CAP_CHOWN"))
    found = get_object(process(build(record)), "capabilities")
    assert get_strings(found, "effective") == ("CAP_CHOWN", "CAP_NET_ADMIN")
    record = container(cap_add=("ALL",), cap_drop=("MKNOD",))
    found = get_object(process(build(record)), "capabilities")
    assert set(get_strings(found, "bounding")) == set(AVAILABLE) - {"CAP_MKNOD"}


def test_security_options() -> None:
    record = container(security_opt=("no-new-privileges", "seccomp=unconfined"))
    document = build(record)
    assert process(document)["noNewPrivileges"] is True
    assert "seccomp" not in linux(document)
    record = container(security_opt=('seccomp={"defaultAction": "SCMP_ACT_ALLOW"}',))
    assert linux(build(record))["seccomp"] == {"defaultAction": "SCMP_ACT_ALLOW"}
    with pytest.raises(EngineError, match="Decoding seccomp profile failed"):
        build(container(security_opt=("seccomp={bad",)))
    assert "seccomp" not in linux(build(default_seccomp="unconfined"))
    builtin = container(security_opt=("seccomp=builtin",))
    for document in (build(default_seccomp="builtin"), build(builtin, default_seccomp="{bad")):
        assert linux(document)["seccomp"] == {"profile": "default"}


def test_apparmor_where_the_kernel_has_it() -> None:
    record = container(security_opt=("apparmor=mine",))
    assert "apparmorProfile" not in process(build(record))
    assert process(build(record, has_apparmor=True))["apparmorProfile"] == "mine"


def test_user_and_groups_stay_names() -> None:
    record = container(ContainerConfig(cmd=("sh",), user="node:staff"), group_add=("audio", "5"))
    user = get_object(process(build(record)), "user")
    assert user["username"] == "node:staff"
    assert user["additionalGroups"] == ["audio", "5"]


def test_read_only_root() -> None:
    document = build(container(readonly_rootfs=True))
    assert get_object(document, "root")["readonly"] is True
    assert "ro" in options_at(document, "/etc/hosts")


def test_binds_cover_what_they_are_mounted_over() -> None:
    points = (
        MountPoint(type="bind", source="/x", destination="/etc/hosts", propagation="rprivate"),
        MountPoint(
            type="bind", source="/d", destination="/dev/shm", rw=False, propagation="rslave"
        ),
    )
    document = build(container(points=points))
    assert mount_at(document, "/etc/hosts")["source"] == "/x"
    assert mount_at(document, "/dev/shm")["options"] == ["rbind", "rro", "rslave"]


def test_shallow_mounts_come_first() -> None:
    points = (
        MountPoint(type="bind", source="/a", destination="/x/y/z"),
        MountPoint(type="bind", source="/b", destination="/x"),
    )
    order = [m["destination"] for m in get_objects(build(container(points=points)), "mounts")]
    assert order.index("/x") < order.index("/x/y/z")


def test_tmpfs() -> None:
    mount = Mount(type="tmpfs", target="/u", tmpfs_options=TmpfsOptions(size_bytes=10, mode=0o700))
    points = (MountPoint(type="tmpfs", destination="/u"),)
    document = build(container(points=points, mounts=(mount,), tmpfs={"/t": "size=1m,exec"}))
    options = mount_at(document, "/t")["options"]
    assert options == ["rprivate", "nosuid", "nodev", "size=1m", "exec"]
    shared = build(container(tmpfs={"/t": "shared"}))
    assert mount_at(shared, "/t")["options"] == ["rprivate", "noexec", "nosuid", "nodev", "shared"]
    assert "mode=700" in options_at(document, "/u")
    with pytest.raises(InvalidArgument, match='invalid tmpfs option "foo"'):
        build(container(tmpfs={"/t": "foo"}))


def test_limits() -> None:
    record = container(
        memory=64 << 20,
        memory_swap=128 << 20,
        nano_cpus=1_500_000_000,
        pids_limit=10,
        cpuset_cpus="0",
        ulimits=(Ulimit(name="nofile", soft=10, hard=-1),),
        oom_score_adj=5,
    )
    document = build(record, default_ulimits=(Ulimit(name="nofile", soft=1, hard=1),))
    assert get_object(linux(document), "resources") == {
        "memory": {"limit": 64 << 20, "swap": 128 << 20},
        "cpu": {"period": 100_000, "quota": 150_000, "cpus": "0"},
        "pids": {"limit": 10},
    }
    assert get_list(process(document), "rlimits") == [
        {"type": "RLIMIT_NOFILE", "soft": 10, "hard": (1 << 64) - 1}
    ]
    assert process(document)["oomScoreAdj"] == 5


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        ({"sysctls": {"a": "b"}}, 'sysctl "a" is not in a separate kernel namespace'),
        (
            {"sysctls": {"net.ipv4.ip_forward": "1"}, "network_mode": "host"},
            'sysctl "net.ipv4.ip_forward" not allowed in host network namespace',
        ),
        (
            {"sysctls": {"kernel.msgmax": "1"}, "ipc_mode": "host"},
            'sysctl "kernel.msgmax" is not allowed in the hosts ipc namespace',
        ),
        ({"ulimits": (Ulimit(name="foo", soft=1, hard=2),)}, "wrong rlimit value: RLIMIT_FOO"),
    ],
)
def test_what_runc_refuses(host: dict[str, object], sentence: str) -> None:
    with pytest.raises(StartFailed) as caught:
        build(container(**host))
    assert str(caught.value).endswith(f"runc create failed: {sentence}")


def test_init() -> None:
    document = build(container(init=True), init_source="/usr/bin/tini-static")
    assert process(document)["args"] == ["/sbin/docker-init", "--", "sleep", "300"]
    assert mount_at(document, "/sbin/docker-init")["source"] == "/usr/bin/tini-static"
