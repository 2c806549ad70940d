"""A container's config completed from its image's."""

import pytest

from wherry.engine.containers.merge import merge_config, override_env, split_command
from wherry.model.container import ContainerConfig, Healthcheck
from wherry.model.errors import InvalidArgument

IMAGE = ContainerConfig(
    env=("PATH=/bin", "LANG=C"),
    cmd=("node",),
    entrypoint=("docker-entrypoint.sh",),
    labels={"a": "image", "b": "image"},
    exposed_ports=("80",),
    volumes=("/data",),
    working_dir="/srv",
    user="node",
    stop_signal="SIGQUIT",
    healthcheck=Healthcheck(test=("CMD", "true"), interval=5),
)


def test_everything_that_was_not_given_comes_from_the_image() -> None:
    merged = merge_config(ContainerConfig(), IMAGE)
    assert split_command(merged) == ("docker-entrypoint.sh", ("node",))
    assert merged.working_dir == "/srv"
    assert merged.user == "node"
    assert merged.stop_signal == "SIGQUIT"
    assert merged.exposed_ports == ("80/tcp",)
    assert merged.volumes == ("/data",)
    assert merged.healthcheck == IMAGE.healthcheck


def test_a_command_keeps_the_entry_point() -> None:
    merged = merge_config(ContainerConfig(cmd=("test.js",)), IMAGE)
    assert split_command(merged) == ("docker-entrypoint.sh", ("test.js",))


def test_an_entry_point_drops_the_images_command() -> None:
    merged = merge_config(ContainerConfig(entrypoint=("bash",)), IMAGE)
    assert split_command(merged) == ("bash", ())


def test_an_empty_entry_point_takes_it_away() -> None:
    merged = merge_config(ContainerConfig(entrypoint=("",), cmd=("ls",)), IMAGE)
    assert merged.entrypoint is None
    assert split_command(merged) == ("ls", ())


def test_environment_is_merged_by_name_and_labels_by_key() -> None:
    asked = ContainerConfig(env=("LANG=de", "X=1"), labels={"a": "mine"})
    merged = merge_config(asked, IMAGE)
    assert merged.env == ("LANG=de", "X=1", "PATH=/bin")
    assert merged.labels == {"a": "mine", "b": "image"}


def test_health_checks_are_merged_by_field() -> None:
    merged = merge_config(ContainerConfig(healthcheck=Healthcheck(retries=2)), IMAGE)
    assert merged.healthcheck == Healthcheck(test=("CMD", "true"), interval=5, retries=2)


def test_no_command() -> None:
    with pytest.raises(InvalidArgument, match="no command specified"):
        merge_config(ContainerConfig(cmd=(), entrypoint=("",)), None)


def test_env_overrides() -> None:
    assert override_env(["A=1", "B=2"], ["B=3", "A", "C="]) == ["B=3", "C="]
