"""`-v` and `--mount`: the grammar, and dockerd 28.5's sentences for what it refuses."""

from dataclasses import replace
from pathlib import Path

import pytest

from wherry.engine.containers.binds import Bind, check_mount, parse_bind, parse_volumes_from
from wherry.engine.containers.mount_points import plan_mounts
from wherry.model.container import (
    BindOptions,
    Container,
    ContainerConfig,
    ContainerId,
    HostConfig,
    Mount,
    MountPoint,
    VolumeOptions,
)
from wherry.model.errors import EngineError, Internal, InvalidArgument, NoSuchContainer

ROOT = Path("/var/lib/wherry")


@pytest.mark.parametrize(
    ("spec", "bind"),
    [
        ("/a:/b", Bind(source="/a", destination="/b")),
        ("/a/../b/:/x/", Bind(source="/b", destination="/x")),
        ("//a://b//c", Bind(source="/a", destination="/b/c")),  # as Git Bash on Windows wants it
        ("/a:/b:", Bind(source="/a", destination="/b")),
        ("/a:/b:ro,rslave,z", Bind(source="/a", destination="/b", mode="ro,rslave,z")),
        ("vol:/x:nocopy", Bind(source="vol", destination="/x", mode="nocopy")),
        ("/a", Bind(source="", destination="/a")),
    ],
)
def test_forms(spec: str, bind: Bind) -> None:
    assert parse_bind(spec) == bind


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("", "invalid volume specification: ''"),
        (":/b", "invalid volume specification: ':/b'"),
        ("/a:ro", "invalid volume specification: '/a:ro'"),
        ("/a:/b:/c:/d", "invalid volume specification: '/a:/b:/c:/d'"),
        ("/a:/b:zz", "invalid mode: zz"),
        ("/a:/b:ro,rw", "invalid mode: ro,rw"),
        ("v:/b:z,Z", "invalid mode: z,Z"),
        (
            "/a:b",
            (
                "invalid volume specification: '/a:b': invalid mount config for type \"bind\": "
                "invalid mount path: 'b' mount path must be absolute"
            ),
        ),
        (
            "a:/",
            (
                "invalid volume specification: 'a:/': invalid mount config for type \"volume\": "
                "invalid specification: destination can't be '/'"
            ),
        ),
        (
            "vol:/x:rslave",
            (
                "invalid volume specification: 'vol:/x:rslave': invalid mount config for type "
                '"volume": field BindOptions must not be specified'
            ),
        ),
    ],
)
def test_refusals(spec: str, sentence: str) -> None:
    with pytest.raises(Internal) as caught:
        parse_bind(spec)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("mount", "sentence"),
    [
        (
            Mount(type="foo", source="/w", target="/a"),
            'invalid mount config for type "foo": mount type unknown',
        ),
        (
            Mount(type="bind", source="nope", target="/x"),
            (
                "invalid mount config for type \"bind\": invalid mount path: 'nope' "
                "mount path must be absolute"
            ),
        ),
        (
            Mount(type="bind", target="/x"),
            'invalid mount config for type "bind": field Source must not be empty',
        ),
        (
            Mount(type="bind", source="/w", target=""),
            'invalid mount config for type "bind": field Target must not be empty',
        ),
        (
            Mount(type="tmpfs", source="/w", target="/a"),
            'invalid mount config for type "tmpfs": field Source must not be specified',
        ),
        (
            Mount(type="volume", target="/a", read_only=True),
            (
                'invalid mount config for type "volume": '
                "must not set ReadOnly mode when using anonymous volumes"
            ),
        ),
        (
            Mount(type="volume", source="w", target="/a", bind_options=BindOptions()),
            'BindOptions must not be specified on mount type "volume"',
        ),
        (
            Mount(
                type="bind", source="/w", target="/a", bind_options=BindOptions(propagation="zz")
            ),
            'invalid mount config for type "bind": invalid propagation mode: zz',
        ),
    ],
)
def test_mount_refusals(mount: Mount, sentence: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_mount(mount)
    assert str(caught.value) == sentence


def test_volumes_from() -> None:
    assert parse_volumes_from("box:ro") == ("box", "ro")
    with pytest.raises(InvalidArgument, match="invalid mode: zz"):
        parse_volumes_from("box:zz")


def no_container(ref: str) -> Container:
    raise NoSuchContainer(ref)


def plan(config: ContainerConfig | None = None, **host: object) -> dict[str, MountPoint]:
    host_config = HostConfig(**host)  # type: ignore[arg-type]
    points = plan_mounts(config or ContainerConfig(), host_config, no_container, ROOT).points
    return {point.destination: point for point in points}


def test_a_bind_takes_the_place_of_the_images_volume() -> None:
    found = plan(ContainerConfig(volumes=("/data", "/other")), binds=("/srv:/data:ro",))
    assert found["/data"].type == "bind"
    assert not found["/data"].rw
    assert found["/data"].propagation == "rprivate"
    assert found["/other"].type == "volume"
    assert len(found["/other"].name) == 64


def test_tmpfs_takes_the_place_of_the_images_volume() -> None:
    assert plan(ContainerConfig(volumes=("/data",)), tmpfs={"/data": ""}) == {}


@pytest.mark.parametrize(
    "host",
    [
        {"binds": ("/a:/x", "/b:/x/")},
        {"binds": ("/a:/x",), "mounts": (Mount(type="tmpfs", target="/x"),)},
        {"binds": ("/a:/x",), "tmpfs": {"/x": ""}},
    ],
)
def test_two_mounts_in_one_place(host: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument, match="Duplicate mount point: /x"):
        plan(**host)


def test_volumes_of_another_container_are_inherited() -> None:
    donor = Container(
        id=ContainerId("d"),
        name="donor",
        created="",
        image_id="",
        image_ref="",
        config=ContainerConfig(),
        host_config=HostConfig(),
        mount_points=(
            MountPoint(type="volume", destination="/data", name="v", source="/v"),
            MountPoint(type="tmpfs", destination="/tmp"),
        ),
    )
    host = HostConfig(volumes_from=("donor:ro",))
    points = plan_mounts(ContainerConfig(), host, lambda _: donor, ROOT).points
    assert [(point.destination, point.rw) for point in points] == [("/data", False)]


def test_a_donor_that_is_not_there() -> None:
    with pytest.raises(EngineError, match="No such container: nope"):
        plan(volumes_from=("nope",))


@pytest.mark.parametrize("source", ["/", "/var", "/var/lib/wherry", "/var/lib/wherry/volumes/v"])
def test_what_holds_the_root_or_is_in_it_follows_its_unmounts(source: str) -> None:
    assert plan(binds=(f"{source}:/x",))["/x"].propagation == "rslave"
    assert plan(binds=(f"{source}:/x:rshared",))["/x"].propagation == "rshared"
    with pytest.raises(InvalidArgument, match='daemon root: "/var/lib/wherry", bind mount source'):
        plan(binds=(f"{source}:/x:private",))
    mount = Mount(
        type="bind", source=source, target="/x", bind_options=BindOptions(propagation="slave")
    )
    with pytest.raises(InvalidArgument, match='propagation: "slave"'):
        plan(mounts=(mount,))
    assert plan(binds=("/var/lib/wherry2:/x",))["/x"].propagation == "rprivate"


def test_two_slashes_are_one() -> None:
    found = plan(ContainerConfig(volumes=("/data",)), binds=("v://data",), tmpfs={"//tmp": ""})
    assert {place: point.name for place, point in found.items()} == {"/data": "v"}
    mount = Mount(type="bind", source="//srv", target="//data")
    with pytest.raises(InvalidArgument, match="Duplicate mount point: /data"):
        plan(binds=("v://data",), mounts=(mount,))
    with pytest.raises(InvalidArgument, match="destination can't be '/'"):
        check_mount(replace(mount, target="//"))


def test_options_of_named_volumes_are_kept() -> None:
    mount = Mount(
        type="volume",
        source="data",
        target="/x",
        volume_options=VolumeOptions(no_copy=True, labels={"a": "b"}),
    )
    volumes = plan_mounts(
        ContainerConfig(), HostConfig(mounts=(mount,)), no_container, ROOT
    ).volumes
    assert [(v.name, v.copies, v.anonymous) for v in volumes] == [("data", False, False)]
