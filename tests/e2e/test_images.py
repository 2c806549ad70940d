"""Images by both clients: saved, loaded, committed, exported, named and removed, with Docker's words."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.engine import Engine

DIGEST = "sha256:" + "0" * 64


@pytest.fixture(autouse=True)
def _only_busybox(engine: Engine, busybox: str) -> Iterator[None]:
    yield
    for line in engine.docker("ps", "-aq").split():
        engine.docker("rm", "-f", line)
    for name in engine.docker("images", "--format", "{{.Repository}}:{{.Tag}}").split():
        if name.startswith("t-"):
            engine.docker("rmi", "-f", name)


def test_a_commit_keeps_the_changes_and_the_config(
    engine: Engine, busybox: str, client: str
) -> None:
    engine.docker(
        "run", "--name", "c1", busybox, "sh", "-c", "echo new > /etc/new; rm /bin/ls; mkdir /d"
    )
    assert sorted(engine.run(client, "diff", "c1").stdout.splitlines()) == [
        "A /d",
        "A /etc/new",
        "C /bin",
        "C /etc",
        "D /bin/ls",
    ]
    changes = [
        "-c",
        "ENV X=y",
        "-c",
        'CMD ["sh","-c","echo $X; cat /etc/new; /bin/ls"]',
        "-a",
        "me",
        "-m",
        "why",
    ]
    done = engine.run(client, "commit", *changes, "c1", "t-made:1")
    assert re.fullmatch(r"sha256:[0-9a-f]{64}\n", done.stdout)
    run = engine.run("docker", "run", "--rm", "t-made:1", check=False)
    assert run.stdout == "y\nnew\n"
    assert run.returncode == 127  # there is no ls any more
    document = json.loads(engine.docker("image", "inspect", "t-made:1"))[0]
    assert (document["Author"], document["Comment"], len(document["RootFS"]["Layers"])) == (
        "me",
        "why",
        2,
    )
    first, second = engine.docker(
        "history", "--format", "{{.CreatedBy}}|{{.Comment}}", "t-made:1"
    ).splitlines()[:2]
    assert first.endswith("|why")
    assert second.endswith("|")


def test_a_commit_counts_symlinks_and_names_the_command_only(
    engine: Engine, busybox: str, client: str
) -> None:
    script = "echo new > /new; ln -s ten-bytes. /link"
    engine.docker("run", "--name", "c1", "--entrypoint", "sh", busybox, "-c", script)
    assert engine.run(client, "ps", "-as", "--format", "{{.Size}}").stdout.startswith("14B (")
    engine.run(client, "commit", "c1", "t-linked:1")
    line = engine.docker(
        "history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Size}}", "t-linked:1"
    )
    assert line.splitlines()[0] == f"-c {script}|14B"


def test_a_commit_of_nothing_adds_no_layer(engine: Engine, busybox: str) -> None:
    engine.docker("run", "--name", "c1", busybox, "true")
    engine.docker("commit", "c1", "t-same:1")
    layers = "{{.RootFS.Layers}}"
    assert engine.docker("image", "inspect", "-f", layers, "t-same:1") == engine.docker(
        "image", "inspect", "-f", layers, busybox
    )
    engine.docker("run", "--name", "c2", "t-same:1", "touch", "/x")
    engine.docker("commit", "c2", "t-more:1")
    assert engine.docker("run", "--rm", "t-more:1", "ls", "/x") == "/x"
    history = engine.docker("history", "--format", "{{.CreatedBy}} {{.Size}}", "t-more:1")
    assert history.splitlines()[1] == "true 0B"
    engine.docker("rm", "c1", "c2")


def test_save_and_load_keep_every_digest(
    engine: Engine, busybox: str, client: str, tmp_path: Path
) -> None:
    engine.docker("tag", busybox, "t-one:1")
    engine.docker("tag", busybox, "t-two:2")
    archive = tmp_path / "saved.tar"
    engine.run(client, "save", "-o", str(archive), "t-one:1", "t-two:2")
    with tarfile.open(archive) as tar:
        (entry,) = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
        assert entry["RepoTags"] == ["t-one:1", "t-two:2"]
        assert entry["Config"].removeprefix("blobs/sha256/") in engine.docker(
            "images", "-q", "--no-trunc"
        )
    engine.docker("rmi", "t-one:1", "t-two:2")
    lines = engine.run(client, "load", "-i", str(archive)).stdout.splitlines()
    assert lines[-2:] == ["Loaded image: t-one:1", "Loaded image: t-two:2"]
    assert engine.docker("images", "-q", "t-one:1") == engine.docker("images", "-q", busybox)


def test_a_load_is_no_tag(engine: Engine, busybox: str, tmp_path: Path) -> None:
    """An image that was saved, removed and loaded is the same to an inspect."""
    engine.docker("tag", busybox, "tagged:1")
    seen = engine.docker("image", "inspect", busybox)
    archive = str(tmp_path / "archive.tar")
    engine.docker("save", "-o", archive, busybox)
    engine.docker("load", "-q", "-i", archive)
    assert engine.docker("image", "inspect", busybox) == seen
    engine.docker("rmi", "tagged:1")


def test_export_and_import_make_one_layer(
    engine: Engine, busybox: str, client: str, tmp_path: Path
) -> None:
    engine.docker("run", "--name", "c1", busybox, "sh", "-c", "echo x > /etc/x; rm /bin/ls")
    archive = tmp_path / "root.tar"
    engine.run(client, "export", "-o", str(archive), "c1")
    with tarfile.open(archive) as tar:
        names = tar.getnames()
    assert "etc/x" in names
    assert "bin/ls" not in names
    assert ".dockerenv" not in names
    engine.run(
        client, "import", "-m", "from a file", "-c", "CMD cat /etc/x", str(archive), "t-flat:1"
    )
    assert engine.docker("run", "--rm", "t-flat:1") == "x"
    assert engine.docker("history", "--format", "{{.Comment}}", "t-flat:1") == "from a file"


def test_what_is_used_or_named_twice_is_not_removed(
    engine: Engine, busybox: str, client: str
) -> None:
    engine.docker("run", "-d", "--name", "c1", busybox, "sleep", "60")
    container = engine.docker("ps", "-q", "--no-trunc")[:12]
    short = engine.docker("images", "-q", busybox)
    refused = engine.run(client, "rmi", busybox, check=False)
    assert refused.returncode == 1
    assert (
        f'conflict: unable to remove repository reference "{busybox}" (must force) - container {container}'
        f" is using its referenced image {short}"
    ) in refused.stderr
    refused = engine.run(client, "rmi", "-f", short, check=False)
    assert (
        f"conflict: unable to delete {short} (cannot be forced) - image is being used by running container"
        f" {container}"
    ) in refused.stderr
    engine.docker("tag", busybox, "t-other:1")
    assert engine.run(client, "rmi", "t-other:1").stdout == "Untagged: t-other:1\n"
    engine.docker("rm", "-f", "c1")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["rmi", "nope"], "No such image: nope:latest"),
        (
            ["tag", "busybox", "UP:x"],
            "invalid reference format: repository name (library/UP) must be lowercase",
        ),
        (["tag", "busybox", "-x"], '"-x" is not a valid repository/tag'),
        (["tag", "busybox", f"a@{DIGEST}"], "refusing to create a tag with a digest reference"),
        (["push", f"busybox@{DIGEST}"], "cannot push a digest reference"),
        (["save", "nope"], "No such image: nope"),
        (["save", "-o", "/tmp", "busybox"], "failed to save image: cannot write to a directory"),
        (["load", "-i", "/tmp"], "read /tmp: is a directory"),
        (["import", "/tmp"], "read /tmp: is a directory"),
        (["rmi", "--platform", "foo", "busybox"], '"foo": unknown operating system'),
        (["history", "--platform", "foo", "busybox"], 'invalid platform: "foo": unknown operating'),
        (["image", "inspect", "nope"], "No such image: nope"),
        (["history", "a:b:c"], "invalid reference format"),
        (["images", "--filter", "foo=bar"], "invalid filter 'foo'"),
        (["images", "--filter", "reference=["], "syntax error in pattern"),
        (
            ["image", "prune", "-f", "--filter", "until=x"],
            'failed to parse value as time or duration: "x"',
        ),
        (
            ["image", "prune", "-f", "--filter", "until=1h", "--filter", "until=2h"],
            "more than one until filter specified",
        ),
    ],
)
def test_what_is_not_there_or_no_name(
    engine: Engine, client: str, arguments: list[str], sentence: str
) -> None:
    done = engine.run(client, *arguments, check=False)
    assert done.returncode == 1
    assert sentence in done.stderr


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("sha256:1", "refusing to create an ambiguous tag using digest algorithm as name"),
        ("host:latest", "the name host is that of the built-in image"),
    ],
)
def test_names_that_would_be_read_as_something_else(
    engine: Engine, busybox: str, client: str, tmp_path: Path, name: str, sentence: str
) -> None:
    saved, renamed = tmp_path / "saved", tmp_path / "renamed"
    engine.docker("save", "-o", str(saved), busybox)
    with tarfile.open(saved) as tar, tarfile.open(renamed, "w") as copy:
        for entry in tar:
            data = tar.extractfile(entry)
            body = data.read() if data is not None else b""
            if entry.name == "manifest.json":
                body = body.replace(busybox.encode(), name.encode())
                entry.size = len(body)
            copy.addfile(entry, io.BytesIO(body))
    engine.docker("create", "--name", "c1", busybox)
    for arguments in (
        ["tag", busybox, name],
        ["commit", "c1", name],
        ["import", str(saved), name],
        ["load", "-i", str(renamed)],
    ):
        done = engine.run(client, *arguments, check=False)
        assert done.returncode == 1
        assert sentence in done.stderr
    assert name not in engine.docker("images", "--format", "{{.Repository}}:{{.Tag}}").split()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\xff" * 4096, "archive/tar: invalid tar header"),
        (b"no archive", "unexpected EOF"),
        (bytes(1024), "the archive holds no images"),
    ],
)
def test_load_of_what_is_no_archive(
    engine: Engine, client: str, tmp_path: Path, content: bytes, sentence: str
) -> None:
    (tmp_path / "archive").write_bytes(content)
    done = engine.run(client, "load", "-i", str(tmp_path / "archive"), check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(sentence)
    assert "'" not in done.stderr


@pytest.mark.parametrize("platform", ["linux", "amd64", "x86_64", "linux/x86-64"])
def test_a_platform_in_parts(engine: Engine, busybox: str, client: str, platform: str) -> None:
    options = ("--platform", platform, "-f", "{{.Architecture}}", busybox)
    assert engine.run(client, "image", "inspect", *options).stdout == "amd64\n"


def test_filters_and_prune(engine: Engine, busybox: str, client: str) -> None:
    engine.docker("image", "prune", "-f")  # of tests before
    engine.docker("run", "--name", "c1", busybox, "sh", "-c", "echo stayed >> /x")
    engine.docker("commit", "-c", "LABEL keep=no", "c1", "t-old:1")
    engine.docker("start", "-a", "c1")  # another layer
    engine.docker(
        "commit", "-c", "LABEL keep=no", "c1", "t-old:1"
    )  # the first has no name any more
    engine.docker("rm", "c1")

    def names(*arguments: str) -> list[str]:
        shown = engine.run(
            client, "images", "--format", "{{.Repository}}:{{.Tag}}", *arguments
        ).stdout
        return sorted(shown.split())

    assert names("--filter", "dangling=true") == ["<none>:<none>"]
    assert names("--filter", "reference=t-*") == ["t-old:1"]
    assert names("--filter", "label=keep=no") == ["<none>:<none>", "t-old:1"]
    mine = ("--filter", "label=keep=no")  # other tests have images, too
    assert names("--filter", f"since={busybox}", *mine) == ["<none>:<none>", "t-old:1"]
    assert names("--filter", f"before={busybox}", *mine) == []
    done = engine.run(client, "image", "prune", "-f", "--filter", "label=keep=no")
    assert done.stdout.startswith("Deleted Images:\n")
    assert "Total reclaimed space: 7B" in done.stdout
    assert names("--filter", "dangling=true") == []
    assert names("--filter", "reference=t-*") == ["t-old:1"]


def test_a_name_that_means_another_image_is_not_shown_as_the_containers(
    engine: Engine, busybox: str, client: str
) -> None:
    engine.docker("tag", busybox, "t-moving:1")
    engine.docker("create", "--name", "c1", "t-moving:1", "true")
    shown = engine.run(client, "ps", "-a", "--format", "{{.Image}}")
    assert shown.stdout == "t-moving:1\n"
    engine.docker("rmi", "t-moving:1")
    shown = engine.run(client, "ps", "-a", "--format", "{{.Image}}")
    assert shown.stdout.strip() == engine.docker("images", "-q", busybox)
    engine.docker("rm", "c1")


def test_containers_are_counted_in_the_tree_only(engine: Engine, busybox: str) -> None:
    engine.docker("create", "--name", "c1", busybox, "true")
    assert engine.docker("images", "--format", "{{.Containers}}", busybox) == "N/A"
    assert engine.wherry("image", "ls", "--tree", busybox).splitlines()[-1].endswith("yes")
    engine.docker("rm", "c1")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("ENV", "ENV requires at least one argument"),
        ("RUN x", "RUN is not a valid change command"),
        ("", "file with no instructions"),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
    ],
)
def test_bad_changes_have_dockers_sentences(
    engine: Engine, busybox: str, client: str, tmp_path: Path, change: str, sentence: str
) -> None:
    engine.docker("create", "--name", "c1", busybox, "true")
    (tmp_path / "root.tar").write_bytes(bytes(1024))
    commit = engine.run(client, "commit", "-c", change, "c1", check=False)
    import_ = engine.run(client, "import", "-c", change, str(tmp_path / "root.tar"), check=False)
    for done in (commit, import_):
        assert (done.returncode, done.stderr) == (1, f"Error response from daemon: {sentence}\n")
    engine.docker("rm", "c1")


def test_the_store_verifies(engine: Engine, busybox: str) -> None:
    assert "no problem found" in engine.wherry("system", "check")


def test_a_container_of_the_host_sees_tools_and_no_data(engine: Engine, client: str) -> None:
    script = "command -v bash python3 >/dev/null && ls -A /root /home /tmp /opt && ls /var/lib && cut -d: -f2 /etc/shadow | sort -u"
    shown = engine.run(client, "run", "--rm", "host", "bash", "-c", script).stdout
    assert set(shown.split()) <= {
        "/root:",
        "/home:",
        "/tmp:",
        "/opt:",
        "apt",
        "dpkg",
        "pam",
        "ucf",
        "*",
    }
    refused = engine.run(client, "rmi", "host", check=False)
    assert "the built-in image `host` cannot be removed" in refused.stderr
