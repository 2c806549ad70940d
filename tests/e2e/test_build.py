"""Builds with both clients: a corpus of Dockerfiles, the cache, secrets, failures, cancelled and killed builds."""

from __future__ import annotations

import base64
import http.server
import io
import json
import os
import re
import signal
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import docker as docker_sdk
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from tests.harness.built_image import describe
from tests.harness.engine import Engine, running_engine

BUILDS = Path(__file__).parents[1] / "data" / "builds"
DEADLINE_S = 60.0


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """An empty folder to build from."""
    folder = tmp_path / "context"
    folder.mkdir()
    return folder


def write(context: Path, dockerfile: str, **files: str) -> Path:
    (context / "Dockerfile").write_text(dockerfile)
    for name, text in files.items():
        (context / name.replace("__", ".")).write_text(text)
    return context


def build(engine: Engine, context: Path, *options: str, client: str = "docker") -> str:
    """Builds; answers all that was printed."""
    done = engine.run(client, "build", *options, str(context), deadline_s=300)
    return done.stdout + done.stderr


def refuse(engine: Engine, context: Path, *options: str, client: str = "docker") -> str:
    done = engine.run(client, "build", *options, str(context), check=False)
    assert done.returncode != 0
    return done.stdout + done.stderr


def output_of(engine: Engine, tag: str, *command: str) -> str:
    return engine.run("docker", "run", "--rm", tag, *command).stdout


def build_id(engine: Engine, tag: str) -> str:
    return engine.docker("image", "inspect", "-f", "{{.Id}}", tag)


def build_leftovers(engine: Engine) -> list[str]:
    folders = [engine.root / "build", engine.run_dir / "build"]
    left = [str(path) for folder in folders if folder.exists() for path in folder.iterdir()]
    return left + [mount for mount in engine.mounts() if "/run/build/" in mount]


def expect_nothing_left(engine: Engine) -> None:
    deadline = time.monotonic() + 10
    while True:
        left = engine.leftovers()
        found = [build_leftovers(engine), left["cgroups"], left["veths"]]
        if not any(found) or time.monotonic() > deadline:
            break
        time.sleep(0.05)  # the kernel frees namespaces in its own time
    assert found == [[], [], []]


@pytest.mark.parametrize("name", sorted(path.name for path in BUILDS.iterdir()))
def test_the_corpus(
    engine: Engine, busybox: str, debian: str, node: str, client: str, name: str
) -> None:
    del busybox, debian, node
    folder = BUILDS / name
    build(engine, folder, "-q", "-t", f"corpus-{name}", client=client)
    assert output_of(engine, f"corpus-{name}") == (folder / "expected.txt").read_text()
    golden = folder / "buildkit.json"
    if golden.exists():
        saved = engine.docker_bytes("save", f"corpus-{name}")
        assert describe(saved, base_layers=1) == json.loads(golden.read_text())


def test_the_classic_texts(engine: Engine, busybox: str, context: Path) -> None:
    write(context, f"FROM {busybox}\nRUN echo hello\nCOPY a /\nCMD true\n", a="1")
    first = build(engine, context, "-t", "texts")
    assert "Step 1/4 : FROM busybox" in first
    assert re.search(r" ---> Running in [0-9a-f]{12}\nhello\n", first)
    assert re.search(r" ---> Removed intermediate container [0-9a-f]{12}\n", first)
    id_ = "[0-9a-f]{12}"
    # The classic builder made a container for what changes the config too.
    assert re.search(
        f"Step 4/4 : CMD true\n ---> Running in {id_}\n ---> Removed intermediate container {id_}\n ---> {id_}\n",
        first,
    )
    assert re.search(f" ---> ({id_})\nSuccessfully built \\1\n", first)
    kept = build(engine, context, "--no-cache", "--rm=false")
    assert "Removed intermediate container" not in kept
    build(engine, context, "-t", "texts")
    assert re.search(r"Successfully built [0-9a-f]{12}\nSuccessfully tagged texts:latest", first)
    before = build_id(engine, "texts")
    second = build(engine, context, "-t", "texts")
    assert second.count(" ---> Using cache") == 3
    assert "Running in" not in second
    assert build_id(engine, "texts") == before


def test_an_image_that_is_new_is_told(engine: Engine, busybox: str, context: Path) -> None:
    write(context, f"FROM {busybox}\nRUN echo new\n")
    since = time.time()
    for name in ("told", "told-again"):
        build(engine, context, "-t", name)
    events = engine.docker(
        *("events", "--since", str(since), "--until", str(time.time()), "--filter", "type=image"),
        *("--format", "{{.Action}} {{.Actor.Attributes.name}}"),
    )
    assert events.splitlines() == [
        f"create {build_id(engine, 'told')}",
        "tag told:latest",
        "tag told-again:latest",
    ]


def test_labels_of_the_command_line(engine: Engine, busybox: str, context: Path) -> None:
    write(context, f"FROM {busybox}\nLABEL a=file\n")
    first = build(engine, context, "-t", "labelled", "--label", "b", "--label", "a=line")
    assert "Step 3/4 : LABEL a=line\n ---> Running in" in first
    assert "Step 4/4 : LABEL b=\n ---> Running in" in first
    again = build(engine, context, "-t", "labelled", "--label", "b=2", "--label", "a=line")
    assert "Step 3/4 : LABEL a=line\n ---> Using cache" in again
    assert "Step 4/4 : LABEL b=2\n ---> Running in" in again
    labels = engine.docker("image", "inspect", "-f", "{{.Config.Labels}}", "labelled")
    assert labels == "map[a:line b:2]"
    assert "LABEL b" not in engine.docker("history", "--no-trunc", "labelled")


def test_a_changed_file_rebuilds_from_its_copy_on(
    engine: Engine, busybox: str, context: Path
) -> None:
    write(context, f"FROM {busybox}\nRUN echo 1\nCOPY a /\nRUN cat /a\n", a="one")
    build(engine, context)
    (context / "a").write_text("two")
    steps = build(engine, context).split("Step ")
    assert "Using cache" in steps[2]
    assert "Using cache" not in steps[3]
    assert "two" in steps[4]


def test_times_change_nothing(engine: Engine, busybox: str, context: Path) -> None:
    write(context, f"FROM {busybox}\nCOPY . /all/\n", a="one")
    build(engine, context, "-t", "times")
    os.utime(context / "a", (1, 1))
    assert "Using cache" in build(engine, context, "-t", "times")
    (context / "a").chmod(0o600)
    assert "Using cache" not in build(engine, context, "-t", "times")


def test_a_stage_rebuilt_to_the_same_files_rebuilds_nothing(
    engine: Engine, busybox: str, context: Path
) -> None:
    text = "FROM {0} AS made\nRUN echo same > /out; echo {1}\nFROM {0}\nCOPY --from=made /out /\nRUN cat /out\n"
    write(context, text.format(busybox, 1))
    build(engine, context)
    write(context, text.format(busybox, 2))
    steps = build(engine, context).split("Step ")
    assert "Using cache" not in steps[2]
    assert "Using cache" in steps[4]
    assert "Using cache" in steps[5]


def test_only_what_the_target_needs(engine: Engine, busybox: str, context: Path) -> None:
    write(
        context,
        f"FROM {busybox} AS one\nRUN echo needed\nFROM {busybox} AS other\nRUN exit 9\nFROM one AS two\n",
    )
    assert "needed" in build(engine, context, "--target", "two")
    message = refuse(engine, context, "--target", "tow")
    assert 'target stage "tow" could not be found (did you mean two?)' in message


def test_arguments_that_nothing_takes_are_told(engine: Engine, busybox: str, context: Path) -> None:
    write(context, f"FROM {busybox}\nARG TAKEN\nARG UNSET_1\n")
    given = ("TAKEN=1", "LEFT=1", "UNSET_1", "UNSET_2")  # a name alone is the client's own variable
    options = [word for name in given for word in ("--build-arg", name)]
    told = "[Warning] One or more build-args [LEFT UNSET_2] were not consumed"
    assert told in build(engine, context, *options)


def test_a_command_may_be_nothing(engine: Engine, busybox: str, context: Path) -> None:
    write(context, f"FROM {busybox}\nCMD []\n")
    build(engine, context, "-t", "nothing")
    assert engine.docker("image", "inspect", "-f", "{{json .Config.Cmd}}", "nothing") == "null"


def test_a_step_whose_program_cannot_be_started(
    engine: Engine, busybox: str, context: Path
) -> None:
    del busybox
    write(context, "FROM scratch\nRUN /nope\n")
    done = engine.run("docker", "build", str(context), check=False)
    assert done.returncode == 1  # 127 would be a program's own code
    assert "stat /bin/sh: no such file or directory" in done.stderr


def test_the_first_failure_ends_the_build(engine: Engine, busybox: str, context: Path) -> None:
    write(
        context,
        f"FROM {busybox} AS slow\nRUN sleep 600\nFROM {busybox} AS bad\nRUN exit 4\n"
        f"FROM {busybox}\nCOPY --from=slow /x /\nCOPY --from=bad /y /\n",
    )
    message = refuse(engine, context, client="wherry")  # long before the sleep has ended
    assert "4 | >>> RUN exit 4" in message
    expect_nothing_left(engine)
    assert not [command for _, command in engine.processes() if "sleep 600" in command]


def test_forty_stages_side_by_side(engine: Engine, busybox: str, context: Path) -> None:
    stages = [f"FROM {busybox} AS s{n}\nRUN echo {n} > /{n}\n" for n in range(40)]
    copies = "".join(f"COPY --from=s{n} /{n} /out/\n" for n in range(40))
    write(context, "".join(stages) + f"FROM {busybox}\n{copies}CMD cat /out/* | wc -l\n")
    build(engine, context, "-q", "-t", "forty", client="wherry")
    assert output_of(engine, "forty").strip() == "40"


def test_five_thousand_files(engine: Engine, busybox: str, context: Path) -> None:
    for number in range(5000):
        folder = context / f"d{number % 50}"
        folder.mkdir(exist_ok=True)
        (folder / f"f{number}").write_text(str(number))
    write(context, f"FROM {busybox}\nCOPY . /all/\nCMD find /all -type f | wc -l\n")
    build(engine, context, "-q", "-t", "many", client="wherry")
    assert output_of(engine, "many").strip() == "5001"
    before = build_id(engine, "many")
    build(engine, context, "-q", "-t", "many", client="wherry")
    assert build_id(engine, "many") == before


def test_a_context_that_changes(engine: Engine, busybox: str, context: Path) -> None:
    for number in range(300):
        (context / f"f{number}").write_text(f"{number}\n")
    (context / "link").symlink_to("f1")
    write(
        context,
        f"FROM {busybox}\nCOPY . /all/\nCMD cd /all; ls | wc -l; cat f1 f2 link; stat -c %a f3\n",
    )
    build(engine, context, "-q", "-t", "changes", client="wherry")
    assert output_of(engine, "changes").split() == ["302", "1", "2", "1", "644"]
    assert f"context {os.uname().nodename}:{context}" in engine.wherry("builder", "du")
    (context / "f2").write_text("two\n")
    (context / "f3").chmod(0o600)
    (context / "f4").unlink()
    (context / "link").unlink()
    (context / "link").symlink_to("f2")
    build(engine, context, "-q", "-t", "changes", client="wherry")
    assert output_of(engine, "changes").split() == ["301", "1", "two", "two", "600"]
    engine.wherry("builder", "prune", "-af")
    build(engine, context, "-q", "-t", "changes", client="wherry")
    assert output_of(engine, "changes").split() == ["301", "1", "two", "two", "600"]


def test_the_same_step_of_two_builds_is_done_once(
    engine: Engine, busybox: str, context: Path
) -> None:
    write(
        context,
        f"FROM {busybox}\nRUN --mount=type=cache,id=once,target=/c echo x >> /c/n; sleep 1; cp /c/n /n\n",
    )
    processes = [engine.spawn("docker", "build", "-q", str(context)) for _ in range(3)]
    ids = {process.communicate(timeout=DEADLINE_S)[0] for process in processes}
    assert len(ids) == 1
    image = ids.pop().decode().strip()
    assert output_of(engine, image, "cat", "/n") == "x\n"


def test_no_cache_and_its_filter(engine: Engine, busybox: str, context: Path) -> None:
    write(
        context,
        f"FROM {busybox} AS a\nRUN cat /proc/sys/kernel/random/uuid > /a\nFROM {busybox} AS b\nRUN cat /proc/sys/kernel/random/uuid > /b\n"
        f"FROM {busybox}\nCOPY --from=a /a /\nCOPY --from=b /b /\nCMD cat /a /b\n",
    )
    build(engine, context, "-q", "-t", "nc")
    first = output_of(engine, "nc").split()
    build(engine, context, "-q", "-t", "nc", "--no-cache-filter", "b", client="wherry")
    second = output_of(engine, "nc").split()
    assert (second[0], second[1] != first[1]) == (first[0], True)
    build(engine, context, "-q", "-t", "nc", "--no-cache")
    third = output_of(engine, "nc").split()
    assert third[0] != second[0]
    assert third[1] != second[1]


def test_onbuild(engine: Engine, busybox: str, tmp_path: Path) -> None:
    base, child = tmp_path / "base", tmp_path / "child"
    base.mkdir()
    child.mkdir()
    write(base, f"FROM {busybox}\nONBUILD COPY app /app\nONBUILD RUN cat /app > /seen\n")
    write(child, "FROM onbuild-base\nCMD cat /seen\n", app="child")
    build(engine, base, "-t", "onbuild-base")
    assert "# Executing 2 build triggers" in build(engine, child, "-t", "onbuild-child")
    assert output_of(engine, "onbuild-child") == "child"
    config = engine.docker("image", "inspect", "-f", "{{json .Config.OnBuild}}", "onbuild-child")
    assert config in {"null", "[]"}
    # A stage that nothing but a trigger needs.
    write(
        child,
        f"FROM {busybox} AS base\nONBUILD COPY --from=other /o /o\nFROM {busybox} AS other\nRUN echo other > /o\n"
        "FROM base\nCMD cat /o\n",
    )
    build(engine, child, "-t", "onbuild-stage")
    assert output_of(engine, "onbuild-stage") == "other\n"


def test_secrets_are_never_stored(engine: Engine, busybox: str, context: Path) -> None:
    secret = "s3cr3t-" + os.urandom(8).hex()
    (context.parent / "key").write_text(secret)
    write(
        context,
        f"FROM {busybox}\n"
        "RUN --mount=type=secret,id=key cat /run/secrets/key | tee /dev/stderr | wc -c > /length\n"
        'RUN --mount=type=secret,id=key,env=KEY test -n "$KEY"\n'
        "RUN --mount=type=secret,id=key,target=/k,mode=0444,uid=7 stat -c '%a %u' /k > /stat\n"
        "RUN test ! -e /run/secrets && test ! -e /k\n"
        "CMD cat /length /stat\n",
    )
    build(
        engine,
        context,
        "-t",
        "secret",
        "--secret",
        f"id=key,src={context.parent / 'key'}",
        client="wherry",
    )
    assert output_of(engine, "secret").split() == [str(len(secret)), "444", "7"]
    assert secret not in engine.docker("history", "--no-trunc", "secret")
    found = subprocess.run(
        ["grep", "-rla", secret, str(engine.root), str(engine.run_dir), str(engine.log)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout == ""


def test_a_required_secret(engine: Engine, busybox: str, context: Path) -> None:
    write(context, f"FROM {busybox}\nRUN --mount=type=secret,id=key,required true\n")
    assert "secret key: not found" in refuse(engine, context, client="wherry")


def test_an_ssh_agent(engine: Engine, debian: str, context: Path) -> None:
    path = context.parent / "agent"
    write(
        context,
        f"FROM {debian}\nUSER nobody\n"
        "RUN --mount=type=ssh,required,uid=65534 perl -MIO::Socket::UNIX -e"
        " 'my $s = IO::Socket::UNIX->new($ENV{SSH_AUTH_SOCK}) or die $!; my $b;"
        ' for my $m (19, 22, 11) { syswrite $s, pack("NC", 1, $m); sysread $s, $b, 9; print unpack("H*", $b), " " }\'\n'
        'RUN test -z "$SSH_AUTH_SOCK" && test ! -e /run/buildkit\n',
    )
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(path))
        agent.listen()

        def answer() -> None:
            connection, _ = agent.accept()
            with connection:
                connection.sendall(connection.recv(5) + b"told")

        thread = threading.Thread(target=answer)
        thread.start()
        told = build(engine, context, "--ssh", f"default={path}", client="wherry")
        thread.join(DEADLINE_S)
    # Keys are neither removed nor locked: these two the agent did not get.
    assert "0000000105 0000000105 000000010b746f6c64" in told
    assert path.stat().st_uid == os.getuid()
    message = refuse(engine, context, "--ssh", f"default={context}", client="wherry")
    assert f"failed to read {context}: is a directory" in message
    key = context.parent / "key"
    made = ed25519.Ed25519PrivateKey.generate()
    encoding, form = serialization.Encoding, serialization.PrivateFormat.OpenSSH
    key.write_bytes(made.private_bytes(encoding.PEM, form, serialization.NoEncryption()))
    public = made.public_key().public_bytes(encoding.Raw, serialization.PublicFormat.Raw)
    (context / "Dockerfile").write_text(
        (context / "Dockerfile").read_text().replace("ssh,", "ssh,id=key,").replace("9;", "999;")
    )
    listed = build(engine, context, "--ssh", f"key={key}", client="wherry")
    assert public.hex() in listed


def test_cache_mounts_are_in_no_layer(engine: Engine, busybox: str, context: Path) -> None:
    write(
        context,
        f"FROM {busybox}\nRUN --mount=type=cache,target=/cache echo kept > /cache/file\n"
        "RUN --mount=type=cache,target=/cache cat /cache/file > /seen\n"
        "RUN test ! -e /cache\nCMD cat /seen\n",
    )
    build(engine, context, "-q", "-t", "cached")
    assert output_of(engine, "cached") == "kept\n"


def test_steps_that_share_a_cache_mount_find_it_filled(
    engine: Engine, busybox: str, context: Path
) -> None:
    count = "RUN --mount=type=cache,id=both,target=/c,from=from,source=/s ls /c | wc -l > /n"
    write(
        context,
        f"FROM {busybox} AS from\nRUN mkdir /s && cd /s && for i in $(seq 3000); do echo $i > $i; done\n"
        f"FROM {busybox} AS one\n{count}\nFROM {busybox} AS two\n{count}; :\n"
        f"FROM {busybox}\nCOPY --from=one /n /one\nCOPY --from=two /n /two\nCMD cat /one /two\n",
    )
    build(engine, context, "-q", "-t", "both")
    assert output_of(engine, "both").split() == ["3000", "3000"]


def test_a_cache_mount_is_filled_wholly_or_not_at_all(
    engine: Engine, busybox: str, context: Path
) -> None:
    text = (
        f"FROM {busybox} AS from\nRUN mkdir /s && echo filled > /s/f\nFROM {busybox}\n"
        "RUN --mount=type=cache,id=whole,target=/c,from=from,source={} cat /c/f\n"
    )
    write(context, text.format("/nope"))
    assert "/nope" in refuse(engine, context)
    write(context, text.format("/s"))
    assert "filled" in build(engine, context)


def test_binds_of_context_and_stages(engine: Engine, busybox: str, context: Path) -> None:
    write(
        context,
        f"FROM {busybox} AS other\nRUN echo stage > /file\nFROM {busybox}\n"
        "RUN --mount=target=/ctx --mount=from=other,source=/file,target=/in/file"
        " --mount=type=tmpfs,target=/t,size=1m"
        " cat /ctx/a /in/file > /seen && touch /t/x && ! touch /ctx/x\n"
        "RUN --mount=target=/ctx,rw echo gone > /ctx/a && cat /ctx/a >> /seen\n"
        "RUN test ! -e /ctx && test ! -e /in && test ! -e /t\nCMD cat /seen\n",
        a="context\n",
    )
    build(engine, context, "-q", "-t", "bound")
    assert output_of(engine, "bound") == "context\nstage\ngone\n"
    assert (context / "a").read_text() == "context\n"


def test_dockerignore(engine: Engine, busybox: str, context: Path, client: str) -> None:
    write(
        context,
        f"FROM {busybox}\nCOPY . /all/\nCMD find /all -type f | sort\n",
        a__md="",
        README__md="",
        b__txt="",
        __dockerignore="*.md\n!README.md\nDockerfile\n.dockerignore\n",
    )
    build(engine, context, "-q", "-t", "ignored", client=client)
    assert output_of(engine, "ignored").split() == ["/all/README.md", "/all/b.txt"]
    (context / "Dockerfile.dockerignore").write_text("**\n!b.txt\n")
    build(engine, context, "-q", "-t", "ignored", client="wherry")
    assert output_of(engine, "ignored").split() == ["/all/b.txt"]


def test_where_dockerfile_and_context_come_from(
    engine: Engine, busybox: str, context: Path, client: str
) -> None:
    write(context, "FROM nowhere\n", a="from the context\n")
    other = context.parent / "Other"
    other.write_text(f"FROM {busybox}\nCOPY a /\nCMD cat /a\n")
    build(engine, context, "-q", "-f", str(other), "-t", "outside", client=client)
    assert output_of(engine, "outside") == "from the context\n"
    engine.run(
        client, "build", "-q", "-t", "stdin", "-", input_=f"FROM {busybox}\nCMD echo stdin\n"
    )
    assert output_of(engine, "stdin") == "stdin\n"
    engine.run(
        client, "build", "-q", "-t", "file", "-f", "-", str(context), input_=other.read_text()
    )
    assert output_of(engine, "file") == "from the context\n"
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.add(context / "a", "a")
        tar.add(other, "sub/Other")
    engine.run(
        client, "build", "-q", "-t", "tar", "-f", "sub/Other", "-", input_=archive.getvalue()
    )
    assert output_of(engine, "tar") == "from the context\n"


def test_named_contexts(engine: Engine, busybox: str, context: Path) -> None:
    extra = context.parent / "extra"
    extra.mkdir()
    (extra / "file").write_text("named\n")
    write(context, "FROM base\nCOPY --from=extra file /\nCMD cat /file\n")
    build(
        engine,
        context,
        "-q",
        "-t",
        "named",
        "--build-context",
        f"extra={extra}",
        "--build-context",
        f"base=docker-image://{busybox}",
        client="wherry",
    )
    assert output_of(engine, "named") == "named\n"
    # A folder can be the root of a stage.
    write(context, f"FROM extra AS root\nFROM {busybox}\nCOPY --from=root / /all/\nCMD ls /all\n")
    build(engine, context, "-t", "named", "--build-context", f"extra={extra}", client="wherry")
    assert output_of(engine, "named") == "file\n"


def test_an_oci_layout_as_context(engine: Engine, busybox: str, debian: str, context: Path) -> None:
    layout = context.parent / "layout"
    write(context, f"FROM {busybox}\nRUN echo layout > /from\n")
    option = f"type=oci,dest={layout},tar=false,name=packed:1,compression=gzip"
    build(engine, context, "-q", "-o", option, client="wherry")
    engine.docker("builder", "prune", "-af")
    write(context, "FROM lay\nCOPY --from=lay /from /copied\nCMD cat /from /copied\n")
    for name in ("lay", "docker.io/library/lay:latest"):
        named = f"{name}=oci-layout://{layout}:1"
        build(engine, context, "-q", "-t", "laid", "--build-context", named, client="wherry")
        assert output_of(engine, "laid") == "layout\nlayout\n"
    top = json.loads((layout / "index.json").read_text())["manifests"][0]["digest"]
    document = json.loads((layout / "blobs" / "sha256" / top.removeprefix("sha256:")).read_text())
    downloading = [
        engine.root / "tmp" / f"{layer['digest'].replace(':', '-')}.partial"
        for layer in document["layers"]
    ]
    for path in downloading:
        path.write_bytes(b"what a pull has so far")
    engine.docker("rmi", "-f", "laid")
    engine.docker("builder", "prune", "-af")
    build(engine, context, "-q", "-t", "laid", "--build-context", named, client="wherry")
    for path in downloading:
        assert path.read_bytes() == b"what a pull has so far"
        path.unlink()
    for where, sentence in (
        (f"{layout}@{top}", ""),
        (f"{layout}:2", "build context lay: it has no 2"),
        (f"{context}", "no OCI layout at"),
    ):
        words = ("--build-context", f"lay=oci-layout://{where}", str(context))
        done = engine.run("wherry", "build", "-q", *words, check=False)
        assert sentence in done.stderr
        assert done.returncode == (1 if sentence else 0), done
    engine.docker("rmi", "-f", "laid")
    write(context, f"FROM {busybox}\nCMD cat /etc/debian_version\n")
    other = f"docker.io/library/busybox:latest=docker-image://{debian}"
    build(engine, context, "-q", "-t", "other", "--build-context", other, client="wherry")
    assert output_of(engine, "other").startswith("12")


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server on loopback and its folder."""
    folder = tmp_path / "web"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, directory=str(folder), **options)  # type: ignore[arg-type]

        def log_message(self, *arguments: object) -> None:
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = False  # those are not waited for when it closes
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", folder
        finally:
            server.shutdown()
            thread.join()


def test_add_of_urls(engine: Engine, busybox: str, context: Path, web: tuple[str, Path]) -> None:
    url, folder = web
    (folder / "file").write_text("from the web\n")
    digest = "8ae34d2ca8d1d5b1b5c1a1e1ab6cda1a8ff4eb2f7e6cf1ac4d0f4c4be0b5a0c0"
    write(context, f"FROM {busybox}\nADD {url}/file /in/\nCMD cat /in/file; stat -c %a /in/file\n")
    build(engine, context, "-q", "-t", "web")
    assert output_of(engine, "web") == "from the web\n600\n"
    assert "Using cache" in build(engine, context, "-t", "web")
    (folder / "file").write_text("another\n")
    assert "Using cache" not in build(engine, context, "-t", "web").split("Step ")[2]
    write(context, f"FROM {busybox}\nADD --checksum=sha256:{digest} {url}/file /\n")
    assert "digest mismatch" in refuse(engine, context)
    write(context, f"FROM {busybox}\nADD {url}/nope /\n")
    assert "invalid response status 404" in refuse(engine, context)


def test_downloads_that_a_build_has_are_not_pruned(
    engine: Engine, busybox: str, context: Path, web: tuple[str, Path]
) -> None:
    url, folder = web
    (folder / "file").write_text("from the web\n")
    write(context, f"FROM {busybox}\nADD {url}/file /\nRUN echo begun; sleep 600\n")
    downloads = engine.root / "build-cache" / "http"
    with engine.spawn("docker", "build", "--no-cache", str(context)) as process:
        assert process.stdout is not None
        assert any(line == b"begun\n" for line in process.stdout)
        engine.docker("builder", "prune", "-af")
        assert list(downloads.glob("*.json"))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=DEADLINE_S)
    expect_nothing_left(engine)
    engine.docker("builder", "prune", "-af")
    assert not downloads.exists()


def test_a_named_context_that_two_stages_fetch(
    engine: Engine, busybox: str, context: Path, web: tuple[str, Path]
) -> None:
    url, folder = web
    with tarfile.open(folder / "files.tar", "w") as tar:
        tar.add(BUILDS / "..", "a", recursive=False)
    copying = "COPY --from=files /a /{0}\n"
    write(
        context,
        f"FROM {busybox} AS one\n{copying.format('one')}FROM {busybox} AS two\n{copying.format('two')}"
        f"FROM {busybox}\nCOPY --from=one /one /one\nCOPY --from=two /two /two\nCMD ls -d /one /two\n",
    )
    named = f"files={url}/files.tar"
    build(engine, context, "-t", "fetched", "--build-context", named, client="wherry")
    assert output_of(engine, "fetched") == "/one\n/two\n"
    expect_nothing_left(engine)


def test_a_remote_dockerfile(engine: Engine, busybox: str, web: tuple[str, Path]) -> None:
    url, folder = web
    (folder / "D").write_text(f"FROM {busybox}\nCMD echo remote\n")
    engine.run("docker", "build", "-q", "-t", "remote", f"{url}/D")
    assert output_of(engine, "remote") == "remote\n"
    (folder / "large").write_bytes(b"#\n" * (3 << 20))
    client = docker_sdk.DockerClient(f"unix://{engine.socket}")
    try:
        with pytest.raises(docker_sdk.errors.APIError, match="neither an archive nor a Dockerfile"):
            client.images.build(path=f"{url}/large")
    finally:
        client.close()


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[str]:
    """The address of a git repository with a Dockerfile."""
    work, bare = tmp_path / "work", tmp_path / "served" / "r.git"
    (work / "sub").mkdir(parents=True)
    (work / "sub" / "file").write_text("from git\n")
    (work / "Dockerfile").write_text("FROM busybox\nCOPY sub/file /\nCMD cat /file\n")
    name = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for arguments in (["init", "-q", "-b", "main"], ["add", "."], [*name, "commit", "-qm", "x"]):
        subprocess.run(["git", *arguments], cwd=work, check=True)
    subprocess.run(["git", "clone", "-q", "--bare", str(work), str(bare)], check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    daemon = subprocess.Popen(
        [
            "git",
            "daemon",
            f"--base-path={bare.parent}",
            "--export-all",
            "--listen=127.0.0.1",
            f"--port={port}",
        ],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)  # git daemon does not say when it listens
        yield f"git://127.0.0.1:{port}/r.git"
    finally:
        os.killpg(daemon.pid, signal.SIGTERM)
        daemon.wait()


def test_git_repositories(
    engine: Engine, busybox: str, context: Path, client: str, repository: str
) -> None:
    if client == "wherry":  # the official client clones by itself, and takes only some addresses
        engine.run(client, "build", "-q", "-t", "git", repository)
        assert output_of(engine, "git") == "from git\n"
    write(
        context,
        f"FROM {busybox}\nADD {repository}#main:sub /sub/\nADD --keep-git-dir {repository} /all/\n"
        "CMD cat /sub/file /all/sub/file && test -d /all/.git\n",
    )
    build(engine, context, "-q", "-t", "added", client=client)
    assert output_of(engine, "added") == "from git\nfrom git\n"
    assert build(engine, context).count("Using cache") == 3


def test_several_platforms_are_an_index(engine: Engine, context: Path) -> None:
    write(context, "FROM scratch\nARG TARGETPLATFORM\nLABEL p=$TARGETPLATFORM\nCOPY x /\n", x="")
    options = ("-t", "multi", "--platform", "linux/amd64,linux/arm64")
    build(engine, context, *options, client="wherry")
    for platform in ("linux/amd64", "linux/arm64"):
        found = engine.docker(
            "image", "inspect", "--platform", platform, "-f", "{{.Config.Labels.p}}", "multi"
        )
        assert found == platform


@pytest.mark.parametrize(
    ("dockerfile", "sentences"),
    [
        (
            "FORM busybox\n",
            [
                "dockerfile parse error on line 1: unknown instruction: FORM (did you mean FROM?)",
                "1 | >>> FORM busybox",
            ],
        ),
        (
            "FROM busybox\nCOPY raal /\n",
            [
                "excluded by .dockerignore: stat raal: file does not exist (did you mean real?)",
                "2 | >>> COPY raal /",
            ],
        ),
        (
            "FROM busybox\nRUN echo last words; exit 3\n",
            [
                "last words",
                "The command '/bin/sh -c echo last words; exit 3' returned a non-zero code: 3",
                "2 | >>> RUN echo last words; exit 3",
            ],
        ),
        (
            'FROM busybox\nRUN ["nosuch"]\n',
            ['exec: "nosuch": executable file not found in $PATH'],
        ),
        (
            "FROM busybox\nCOPY --from=127.0.0.1:1/nothing a b\n",
            ["connection refused", "2 | >>> COPY --from=127.0.0.1:1/nothing a b"],
        ),
        ("\n\n", ["file with no instructions"]),
        ("", ["the Dockerfile (Dockerfile) cannot be empty"]),
        ("FROM busybox\nUSER nobody-here\nRUN true\n", ["unable to find user nobody-here"]),
        ("FROM busybox\nCOPY --chown=nope real /\n", ["no such user: nope"]),
        ("FROM busybox\nCOPY --chmod=9 real /\n", ["invalid chmod parameter"]),
    ],
)
def test_failures_say_what_happened(
    engine: Engine,
    busybox: str,
    context: Path,
    client: str,
    dockerfile: str,
    sentences: list[str],
) -> None:
    del busybox
    write(context, dockerfile, real="")
    message = refuse(engine, context, client=client)
    for sentence in sentences:
        assert sentence in message
    expect_nothing_left(engine)


def test_debug_keeps_the_state_before_the_failed_step(
    engine: Engine, busybox: str, context: Path
) -> None:
    write(context, f"FROM {busybox}\nRUN echo before > /state\nRUN exit 1\n")
    message = refuse(engine, context, "--debug", client="wherry")
    image = re.search(r"--entrypoint sh ([0-9a-f]{12})", message)
    assert image is not None
    assert output_of(engine, image[1], "cat", "/state") == "before\n"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--security-opt", "seccomp=x"), "security options are not supported on linux"),
        (("--isolation", "hyperv"), 'unsupported isolation: "hyperv"'),
        (("--cpuset-cpus", "999"), "Requested CPUs are not available - requested 999"),
        (("--memory", "1m"), "Minimum memory limit allowed is 6MB"),
        (("-t", "a@sha256:" + "0" * 64), "build tag cannot contain a digest"),
        (
            ("--platform", "linux/s390x"),
            "its platform (linux/amd64) does not match the specified platform (linux/s390x)",
        ),
    ],
)
def test_options_that_cannot_be(
    engine: Engine, busybox: str, context: Path, options: tuple[str, ...], sentence: str
) -> None:
    # A name that no registry has: the image that is here is for another platform.
    engine.docker("tag", busybox, "127.0.0.1:1/here")
    write(context, "FROM 127.0.0.1:1/here\nRUN true\n")
    for client in ("docker", "wherry"):
        assert sentence in refuse(engine, context, "--no-cache", *options, client=client)
    engine.docker("rmi", "127.0.0.1:1/here")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_cancelled_build_leaves_nothing(
    engine: Engine, busybox: str, context: Path, client: str, how: signal.Signals
) -> None:
    write(
        context,
        f"FROM {busybox}\nRUN echo {client}{how} > /first\nRUN --mount=target=/c echo begun; sleep 600\n",
    )
    process = engine.spawn(client, "build", str(context), stderr=subprocess.STDOUT)
    assert process.stdout is not None
    for line in process.stdout:
        if b"begun" in line and b"echo" not in line:
            break
    process.send_signal(how)
    process.communicate(timeout=DEADLINE_S)
    expect_nothing_left(engine)
    assert not [command for _, command in engine.processes() if "sleep 600" in command]
    write(context, f"FROM {busybox}\nRUN echo {client}{how} > /first\nRUN cat /first\n")
    assert "Using cache" in build(engine, context)


def test_a_build_cancelled_while_bytes_are_written(
    engine: Engine, busybox: str, context: Path
) -> None:
    def cancel(what: str, *options: str) -> None:
        building = engine.spawn("wherry", "build", *options, str(context))
        deadline = time.monotonic() + DEADLINE_S
        while not any(engine.root.glob(what)) and building.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        building.send_signal(signal.SIGINT)
        building.communicate(timeout=DEADLINE_S)
        while left := [*engine.root.glob("layers/.new-*"), *engine.root.glob("tmp/*")]:
            assert time.monotonic() < deadline, left
            time.sleep(0.05)

    (context / "big").write_bytes(os.urandom(1 << 20) * 100)
    write(context, f"FROM {busybox}\nCOPY big /\n")
    images = engine.docker("images", "-aq")
    cancel("layers/.new-*")
    build(engine, context, "-q", "-t", "written")
    engine.docker("rmi", "written")
    option = f"type=oci,dest={context.parent}/out,compression=gzip,compression-level=9"
    cancel("tmp/packed-*", "-o", option)
    assert engine.docker("images", "-aq") == images


def test_an_engine_killed_in_a_step(busybox_archive: Path, context: Path) -> None:
    write(context, "FROM busybox\nRUN echo first > /first\nRUN echo begun; sleep 600\n")
    with running_engine() as engine:
        engine.docker("load", "-q", "-i", str(busybox_archive))
        process = engine.spawn("wherry", "build", str(context), stderr=subprocess.STDOUT)
        assert process.stdout is not None
        for line in process.stdout:
            if line.endswith(b" begun\n"):
                break
        engine.kill()
        told, _ = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 1
        assert b"the engine has gone before the build ended" in told
        engine.start()
        expect_nothing_left(engine)
        assert not [command for _, command in engine.processes() if "sleep 600" in command]
        write(context, "FROM busybox\nRUN echo first > /first\nRUN cat /first\n")
        assert "Using cache" in build(engine, context)


@pytest.fixture(scope="session")
def busybox_archive() -> Path:
    """The archive of the busybox image."""
    from tests.images.make import default_folder, make_image

    return make_image(default_folder(), "busybox")


def test_two_stores_give_the_same_digest(busybox_archive: Path, context: Path) -> None:
    write(
        context,
        "FROM busybox\nARG SOURCE_DATE_EPOCH\nWORKDIR /app\nCOPY . .\n"
        "RUN mkdir -p /x/y && echo 1 > /x/y/z && ln -s z /x/y/l && rm /app/b\nLABEL a=b\n",
        a="1",
        b="2",
    )
    ids = []
    for moment in (1_600_000_000, 1_700_000_000):
        os.utime(context / "a", (moment, moment))
        with running_engine() as engine:
            engine.docker("load", "-q", "-i", str(busybox_archive))
            build(engine, context, "-q", "-t", "r", "--build-arg", "SOURCE_DATE_EPOCH=1500000000")
            ids.append(build_id(engine, "r"))
    assert ids[0] == ids[1]


def test_the_same_layer_twice(engine: Engine, busybox: str, context: Path) -> None:
    write(
        context,
        f"FROM {busybox}\nCOPY a /x/y/\nRUN rm /x/y/a && mkdir -p /tmp/z\nCOPY a /x/y/\nRUN cat /x/y/a\n"
        "COPY a /tmp/\nCOPY a /tmp/z/\nRUN stat -c %a /tmp > /mode\nCMD cat /x/y/a /mode\n",
        a="again\n",
    )
    build(engine, context, "-q", "-t", "twice")
    assert output_of(engine, "twice") == "again\n1777\n"


def test_copies_onto_what_is_there(engine: Engine, busybox: str, context: Path) -> None:
    (context / "d").mkdir()
    (context / "d" / "file").write_text("new\n")
    write(
        context,
        f"FROM {busybox}\n"
        "RUN mkdir -p /real/d && chmod 711 /real/d && ln -s /real /link && echo old > /real/d/file && mkdir /folder\n"
        "COPY d/file /link/d/\nCOPY d /link/other/\nCOPY d/file /folder\nCOPY . /link/\n"
        "CMD stat -c '%a %F' /link /real/d; cat /real/d/file /real/other/file /folder/file\n",
    )
    build(engine, context, "-q", "-t", "onto")
    assert output_of(engine, "onto").split("\n")[:2] == ["777 symbolic link", "711 directory"]
    assert output_of(engine, "onto").count("new") == 3
    write(context, f"FROM {busybox}\nRUN mkdir -p /x/file\nCOPY d /x/\n")
    assert "cannot overwrite directory file with a file" in refuse(engine, context)
    write(context, f"FROM {busybox}\nRUN mkdir /x && touch /x/d\nCOPY . /x/\n")
    assert "cannot copy to non-directory: d" in refuse(engine, context)
    write(context, f"FROM {busybox}\nCOPY Dockerfile d /x\n")
    assert "cannot copy to non-directory: /x" in refuse(engine, context)


def test_links_and_times_of_what_is_copied(
    engine: Engine, busybox: str, context: Path, client: str
) -> None:
    (context / "d" / "sub").mkdir(parents=True)
    (context / "d" / "one").write_text("x" * 1000)
    (context / "d" / "sub" / "two").hardlink_to(context / "d" / "one")
    with tarfile.open(context / "packed.tar", "w") as archive:
        for name, kind in (("late", tarfile.DIRTYPE), ("late/file", tarfile.REGTYPE)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode, entry.mtime = kind, 0o755, 1000
            archive.addfile(entry)
    for path in (context / "d" / "one", context / "d" / "sub", context / "d"):
        os.utime(path, (1000, 1000))
    write(
        context,
        f"FROM {busybox} AS from\nRUN mkdir /s /s/t && echo s > /s/a && ln /s/a /s/t/b && touch -d @2000 /s/t /s\n"
        f"FROM {busybox}\nCOPY d /ctx/\nCOPY --from=from /s /st/\nADD packed.tar /\nCOPY --from=from --chown=3 /s /tmp/\n"
        "CMD stat -c '%n %h %Y' /ctx /ctx/one /ctx/sub /ctx/sub/two /st /st/a /st/t /st/t/b /late | sort;"
        " stat -c '%h %u' /tmp/t/b\n",
    )
    build(engine, context, "-q", "-t", "names", client=client)
    # As BuildKit: names of one file stay so, and a folder has the time that it had.
    lines = output_of(engine, "names").splitlines()
    assert {line.split()[0]: line.split()[1:] for line in lines[:-1]} == {
        "/ctx": ["3", "1000"],
        "/ctx/one": ["2", "1000"],
        "/ctx/sub": ["2", "1000"],
        "/ctx/sub/two": ["2", "1000"],
        "/late": ["2", "1000"],
        "/st": ["3", "2000"],
        "/st/a": ["2", lines[6].split()[2]],
        "/st/t": ["2", "2000"],
        "/st/t/b": ["2", lines[6].split()[2]],
    }
    assert lines[-1].endswith(" 3")
    write(
        context,
        f"FROM {busybox}\nRUN mkdir /real /links && ln -s /real /links/sub\nCOPY d /links/\n"
        "RUN --mount=type=bind,target=/bound stat -c %h /links/one /real/two /bound/d/one > /counts\n"
        "CMD cat /counts\n",
    )
    build(engine, context, "-q", "-t", "names", client=client)
    assert output_of(engine, "names") == "2\n2\n2\n"


def test_names_of_one_file_onto_folders_that_are_there(
    engine: Engine, busybox: str, context: Path
) -> None:
    write(
        context,
        f"FROM {busybox} AS from\nRUN mkdir -p /s/a /s/b /s/c /s/aa && cd /s && echo X > a/f && echo Y > b/f"
        " && ln a/f c/g && ln a/f c/h && echo Z > aa/one && ln aa/one c/i && ln aa/one c/j\n"
        f"FROM {busybox}\nRUN mkdir -p /d/b /d/c && ln -s b /d/a && touch /d/b/old /d/c/old\n"
        "COPY --from=from /s /d/\n"
        "CMD cd /d; cat b/f c/g c/h aa/one c/i c/j; stat -c %h c/g c/h c/i c/j\n",
    )
    build(engine, context, "-q", "-t", "onto")
    # a/f went where b/f was written after it; aa is new, and what is in it cannot be linked to from c.
    assert output_of(engine, "onto").split() == [*"YXXZZZ", *"2222"]


def test_folders_on_the_way_of_a_copy(engine: Engine, busybox: str, context: Path) -> None:
    with tarfile.open(context / "packed.tar", "w") as archive:
        entry = tarfile.TarInfo("inner/file")
        entry.mode = 0o640
        archive.addfile(entry)
    lines = [f"FROM {busybox} AS from", "RUN touch /file", f"FROM {busybox}"]
    modes = {"713": 711, "0600": 600, "4755": 755, "u=rwx,go=": 755}
    for number, mode in enumerate(modes):
        lines += [
            f"COPY --chmod={mode} a /a{number}/b/",
            f"ADD --chmod={mode} packed.tar /c{number}/d/",
            f"COPY --chmod={mode} --from=from /file /e{number}/f",
            f"COPY --chmod={mode} <<x /g{number}/",
            "x",
        ]
    paths = " ".join(f"/a{n} /a{n}/b /c{n} /c{n}/d/inner/file /e{n} /g{n}" for n in range(4))
    lines += ["COPY packed.tar a /one", f"CMD stat -c %a {paths}; cat /one"]
    write(context, "\n".join(lines), a="the last of several")
    build(engine, context, "-q", "-t", "ways")
    *found, last = output_of(engine, "ways").split("\n")
    # As BuildKit: --chmod is for what is made on the way too, and not for members of archives.
    assert found == [
        str(mode) for made in modes.values() for mode in (made, made, 755, 640, made, made)
    ]
    assert last == "the last of several"


def layers_of(engine: Engine, tag: str) -> list[str]:
    layers = json.loads(engine.docker("image", "inspect", "-f", "{{json .RootFS.Layers}}", tag))
    assert isinstance(layers, list)
    return layers


def test_linked_copies_are_good_on_every_base(engine: Engine, busybox: str, context: Path) -> None:
    text = (
        "FROM {0} AS made\nRUN mkdir /out && echo made > /out/file; echo {1} > /other\n"
        "FROM {0}\nRUN echo {1} > /before\nCOPY --link a /x/y/\nCOPY --link --from=made /out /z/\n"
        "RUN cat /x/y/a /z/file\n"
    )
    write(context, text.format(busybox, 1), a="one\n")
    assert "one\nmade\n" in build(engine, context, "-t", "link-1")
    write(context, text.format(busybox, 2), a="one\n")
    steps = build(engine, context, "-t", "link-2").split("Step ")
    cached = [at for at, step in enumerate(steps) if "Using cache" in step]
    assert cached == [5, 6]  # the copies, and neither what is before nor what is after them
    first, second = layers_of(engine, "link-1"), layers_of(engine, "link-2")
    assert first[-2:] == second[-2:]
    write(context, "FROM scratch\nCOPY --link a /x/y/\n", a="one\n")
    assert "Using cache" in build(engine, context, "-t", "link-3")
    assert layers_of(engine, "link-3") == first[-2:-1]
    assert "Using cache" not in build(engine, context, "--no-cache")


def test_linked_copies_do_not_look_at_the_base(engine: Engine, busybox: str, context: Path) -> None:
    (context / "d").mkdir()
    (context / "d" / "sub").mkdir()
    write(
        context,
        f"FROM {busybox} AS from\nRUN mkdir -p /out/own && chmod 750 /out/own && touch /out/own/made\n"
        f"FROM {busybox}\n"
        "RUN mkdir -m 700 /own /at /plain && touch /own/old && chown 9:9 /own /at && ln -s at /link\n"
        "RUN echo alice:x:77:78::: >> /etc/passwd\n"
        "COPY --link a /own/\nCOPY --link --chown=5:6 d /link/\nCOPY --link a /at\n"
        "COPY --link --chown=root a /own/old/\nCOPY --link --from=from /out /plain/\n"
        "COPY --link --chown=alice a /named\nCOPY --link --chmod=604 a /link/moded\n"
        "CMD stat -c '%n %a %u:%g %F' /own /own/old /link /link/sub /at /plain /plain/own /plain/own/made"
        " /named /link/moded\n",
        a="x",
    )
    build(engine, context, "-q", "-t", "apart")
    # As BuildKit with a store that links: directories of the layer and their owners win, a link is no way.
    assert output_of(engine, "apart").splitlines() == [
        "/own 755 0:0 directory",
        "/own/old 755 0:0 directory",
        "/link 755 5:6 directory",
        "/link/sub 755 5:6 directory",
        "/at 644 0:0 regular file",
        "/plain 755 0:0 directory",
        "/plain/own 750 0:0 directory",
        "/plain/own/made 644 0:0 regular empty file",
        "/named 644 77:78 regular file",
        "/link/moded 604 0:0 regular file",
    ]
    write(context, "FROM scratch\nCOPY --chown=root:root a /\n", a="x")
    build(engine, context)


def test_docker_py(engine: Engine, busybox: str, context: Path) -> None:
    write(context, f"FROM {busybox}\nARG X\nRUN echo $X > /x\nCMD cat /x\n")
    client = docker_sdk.DockerClient(f"unix://{engine.socket}")
    try:
        image, lines = client.images.build(
            path=str(context), tag="py", buildargs={"X": "1"}, labels={"l": "2"}, rm=True
        )
        texts = [str(line.get("stream", "")) for line in lines]
        assert "Successfully tagged py:latest\n" in texts
        assert image.labels == {"l": "2"}
        with pytest.raises(docker_sdk.errors.BuildError, match="returned a non-zero code: 4"):
            client.images.build(fileobj=io.BytesIO(f"FROM {busybox}\nRUN exit 4\n".encode()))
        assert "SpaceReclaimed" in client.api.prune_builds()
    finally:
        client.close()


def test_buildkit_is_refused_with_the_cure(engine: Engine) -> None:
    client = docker_sdk.DockerClient(f"unix://{engine.socket}")
    try:
        response = client.api.post(
            client.api.base_url + "/v1.51/build?version=2", headers={"Content-Type": "x"}
        )
        assert response.status_code == 501
        assert "DOCKER_BUILDKIT=0" in response.json()["message"]
        assert client.api.get(client.api.base_url + "/_ping").headers["Builder-Version"] == "1"
    finally:
        client.close()


def test_outputs(engine: Engine, busybox: str, context: Path) -> None:
    write(
        context,
        f"FROM {busybox} AS made\nRUN echo out > /file\nFROM scratch\nCOPY --from=made /file /\n",
    )
    folder, archive = context.parent / "out", context.parent / "out.tar"
    build(engine, context, "-q", "-o", str(folder), client="wherry")
    assert [path.name for path in folder.iterdir()] == ["file"]
    assert (folder / "file").read_text() == "out\n"
    build(engine, context, "-q", "-o", f"type=tar,dest={archive}", client="wherry")
    with tarfile.open(archive) as tar:
        assert tar.getnames() == ["file"]
    oci = context.parent / "oci.tar"
    build(engine, context, "-q", "-o", f"type=oci,name=oci,dest={oci}", client="wherry")
    build(engine, context, "-q", "-o", "type=image,name=by-output:1", client="wherry")
    assert build_id(engine, "by-output:1")
    with tarfile.open(oci) as tar:
        assert "oci-layout" in tar.getnames()


def layer_types(index: Path) -> set[str]:
    """The media types of the layers of an OCI layout's only image."""
    top = json.loads((index / "index.json").read_text())["manifests"][0]
    manifest = json.loads((index / "blobs" / top["digest"].replace(":", "/")).read_text())
    return {layer["mediaType"].rpartition(".")[2] for layer in manifest["layers"]}


def test_outputs_compressed(engine: Engine, busybox: str, context: Path) -> None:
    write(context, f"FROM {busybox}\nRUN echo out > /file\nCMD cat /file\n")
    for number, (form, expected) in enumerate(
        (
            ("compression=zstd", "tar+zstd"),
            ("compression=zstd,compression-level=22,force-compression=true", "tar+zstd"),
            ("compression=gzip,compression-level=9", "tar+gzip"),
            ("compression=uncompressed", "tar"),
        )
    ):
        folder = context.parent / f"layout-{number}"
        option = f"type=oci,dest={folder},tar=false,name=packed,{form}"
        build(engine, context, "-q", "-o", option, client="wherry")
        assert layer_types(folder) == {expected}
    archive = context.parent / "image.tar"
    option = f"type=docker,dest={archive},name=packed,compression=zstd"
    build(engine, context, "-q", "-o", option, client="wherry")
    engine.docker("load", "-q", "-i", str(archive))
    assert output_of(engine, "packed") == "out\n"
    engine.docker("image", "rm", "packed")
    build(engine, context, "-q", "-o", "type=image,name=kept,compression=zstd", client="wherry")
    assert output_of(engine, "kept") == "out\n"
    engine.docker("save", "-o", str(archive), "kept")
    folder = context.parent / "kept"
    with tarfile.open(archive) as saved:
        saved.extractall(folder)
    assert layer_types(folder) == {"tar+zstd"}
    engine.docker("image", "rm", "kept")
    option = f"type=oci,dest={archive},compression=lz4"
    assert "unsupported compression type lz4" in refuse(
        engine, context, "-o", option, client="wherry"
    )


def test_outputs_of_several_platforms(engine: Engine, context: Path) -> None:
    write(context, "FROM scratch\nARG TARGETARCH\nCOPY a /$TARGETARCH\n", a="")
    folder, archive, facts = (context.parent / name for name in ("out", "oci.tar", "facts"))
    images = engine.docker("images", "-aq")
    progress = build(
        engine,
        context,
        "--platform=linux/amd64,linux/arm64",
        f"--output={folder}",
        f"--output=type=oci,dest={archive}",
        f"--metadata-file={facts}",
        "--progress=plain",
        client="wherry",
    )
    assert "[linux/arm64 stage-0 2/2] COPY a /$TARGETARCH" in progress
    found = sorted(str(path.relative_to(folder)) for path in folder.glob("*/*"))
    assert found == ["linux_amd64/amd64", "linux_arm64/arm64"]
    with tarfile.open(archive) as tar:
        index = tar.extractfile("index.json")
        assert index is not None
        (entry,) = json.load(index)["manifests"]
    assert entry["mediaType"] == "application/vnd.oci.image.index.v1+json"
    assert json.loads(facts.read_text())["containerimage.digest"] == entry["digest"]
    # What is only asked for as files leaves no image.
    assert engine.docker("images", "-aq") == images


def test_an_output_that_nobody_can_write(engine: Engine, context: Path) -> None:
    write(context, "FROM scratch\n")
    message = refuse(engine, context, "-o", "type=floppy", client="wherry")
    assert 'exporter "floppy" could not be found' in message


def test_files_that_tell_about_the_build(engine: Engine, busybox: str, context: Path) -> None:
    write(context, f"FROM {busybox}\n")
    identity, metadata = context.parent / "id", context.parent / "metadata"
    build(engine, context, "-t", "facts", "--iidfile", str(identity))
    assert identity.read_text() == build_id(engine, "facts")
    build(
        engine,
        context,
        "-t",
        "facts",
        "--iidfile",
        str(identity),
        "--metadata-file",
        str(metadata),
        client="wherry",
    )
    assert identity.read_text() == build_id(engine, "facts")
    facts = json.loads(metadata.read_text())
    assert facts["containerimage.config.digest"] == build_id(engine, "facts")
    assert facts["image.name"] == "docker.io/library/facts"


def test_progress_for_programs(engine: Engine, busybox: str, context: Path) -> None:
    write(context, f"FROM {busybox}\nRUN echo said\n")
    told = build(engine, context, "--no-cache", "--progress=rawjson", client="wherry")
    records = [json.loads(line) for line in told.splitlines()]
    vertexes = [vertex for record in records for vertex in record.get("vertexes", ())]
    run = [vertex for vertex in vertexes if vertex["name"] == "[stage-0 2/2] RUN echo said"]
    assert sorted(run[-1]) == ["completed", "digest", "name", "started"]
    (log,) = [log for record in records for log in record.get("logs", ())]
    assert log["vertex"] == run[0]["digest"]
    assert base64.b64decode(log["data"]) == b"said\n"


def test_lint_findings(engine: Engine, busybox: str, context: Path) -> None:
    write(
        context,
        f"FROM {busybox} as unneeded\nWORKDIR relative\n"
        f"from {busybox} as Base\nMAINTAINER me\nCMD echo $nope\n",
    )
    done = engine.run("wherry", "build", "--check", str(context), check=False)
    assert done.returncode == 1
    assert "StageNameCasing" in done.stdout
    assert "WorkdirRelativePath" in done.stdout
    assert "MaintainerDeprecated" in done.stdout
    assert "JSONArgsRecommended" in done.stdout
    build(engine, context)


def test_findings_that_are_errors(engine: Engine, busybox: str, context: Path, client: str) -> None:
    for line, rule in (("CMD echo", "JSONArgsRecommended"), ("WORKDIR a", "WorkdirRelativePath")):
        write(context, f"# check=error=true\nFROM {busybox}\nRUN echo before > /x\n{line}\n")
        message = refuse(engine, context, client=client)
        assert f"lint violation found for rules: {rule}\n - {rule}: " in message
        assert "Running in" not in message
        build(
            engine, context, "--build-arg", f"BUILDKIT_DOCKERFILE_CHECK=skip={rule}", client=client
        )
    write(context, f"# check=bad=true\nFROM {busybox}\n")
    assert 'failed to parse check options: invalid check option "bad"' in refuse(engine, context)


def test_networks_and_hosts(engine: Engine, busybox: str, context: Path) -> None:
    write(
        context,
        f"FROM {busybox}\nRUN grep '10.9.8.7.*there' /etc/hosts\n"
        "RUN --network=none test ! -e /sys/class/net/eth0\n"
        "RUN test -e /sys/class/net/eth0\n",
    )
    build(engine, context, "--add-host", "there:10.9.8.7")
    write(context, f"FROM {busybox}\nRUN test ! -e /sys/class/net/eth0\n")
    build(engine, context, "--network", "none")


def test_a_dockerfile_gets_no_privileges_by_itself(
    engine: Engine, busybox: str, context: Path
) -> None:
    bounding = "grep CapBnd /proc/self/status"
    write(context, f"FROM {busybox}\nRUN --security=insecure {bounding}\n")
    for client in ("docker", "wherry"):
        sentence = "security.insecure is not allowed: build with --allow security.insecure"
        assert sentence in refuse(engine, context, client=client)
    build(engine, context, "--allow", "security.insecure", client="wherry")
    # Not from the cache either.
    assert sentence in refuse(engine, context)
    write(context, f"FROM {busybox}\nRUN --network=host test -e /sys/class/net/{engine.bridge}\n")
    assert "network.host is not allowed" in refuse(engine, context, client="wherry")
    build(engine, context, "--allow", "network.host", client="wherry")
    build(engine, context, "--no-cache", "--network", "host")
    assert "unknown entitlement bogus" in refuse(
        engine, context, "--allow", "bogus", client="wherry"
    )


def test_cache_usage_prune_and_history(engine: Engine, busybox: str, context: Path) -> None:
    write(context, f"FROM {busybox}\nRUN head -c 100000 /dev/urandom > /big\n")
    build(engine, context, "-t", "pruned")
    assert "RUN head -c 100000" in engine.wherry("builder", "du")
    engine.docker("rmi", "-f", "pruned")
    freed = engine.wherry("builder", "prune", "-af")
    assert "Total reclaimed space" in freed
    assert "RUN head -c 100000" not in engine.wherry("builder", "du")
    assert "pruned" in engine.wherry("builder", "history")
    assert "Using cache" not in build(engine, context)


def test_cache_records_and_what_prune_takes(engine: Engine, busybox: str, context: Path) -> None:
    engine.docker("builder", "prune", "-af")
    write(
        context,
        f"FROM {busybox}\nRUN --mount=type=cache,target=/c head -c 1000 /dev/zero | tee /one > /c/in\n"
        "COPY a /\nRUN true\nCOPY --from=busybox /bin/busybox /b\n",
        a="xyz",
    )
    build(engine, context, "-q", "-t", "records")
    df = engine.docker("system", "df", "-v", "--format", "{{json .BuildCache}}")
    records = {record["Description"]: record for record in json.loads(df)}
    run, copied = (
        records["RUN --mount=type=cache,target=/c head -c 1000 /dev/zero | tee /one > /c/in"],
        records["COPY a /"],
    )
    assert (copied["Parent"], copied["Size"], copied["CacheType"]) == (
        run["ID"],
        "3B",
        "source.local",
    )
    assert records["cached mount /c"]["CacheType"] == "exec.cachemount"
    assert len(records) == 5
    text = engine.wherry("builder", "du", "--verbose", "--filter", "description~=^COPY a")
    assert f"Parents:\n - {run['ID']}\n" in text
    assert text.count("Type:") == 1
    shown = engine.wherry("builder", "du", "--filter=type=exec.cachemount", "--format", "{{.Size}}")
    assert shown == "1kB"

    def prune(*options: str) -> str:
        return engine.wherry("builder", "prune", "-f", *options)

    assert "Total reclaimed space: 0B" in prune("--reserved-space", "1GB", "--all")
    assert "Total reclaimed space: 0B" in prune("--min-free-space", "1", "--all")
    assert "Total reclaimed space: 0B" in prune("--filter", "until=1h")
    assert "Total reclaimed space: 1kB" in prune("--filter", "type=exec.cachemount")
    assert not list((engine.root / "build-cache").glob("[0-9a-f]*.id"))
    deleted = prune()  # what the image has stays
    assert records["RUN true"]["ID"] in deleted
    assert run["ID"] not in deleted
    engine.docker("rmi", "-f", "records")
    assert "Total reclaimed space: 0B" in prune("--max-used-space", "3MB")
    assert run["ID"] in prune("--max-used-space", "1kB")
    for query, sentence in (
        ("keep-storage=abc", "keep-storage is in bytes and expects an integer, got abc"),
        ('filters={"foo":["x"]}', "failed to prune build cache: invalid filter"),
    ):
        client = docker_sdk.DockerClient(f"unix://{engine.socket}")
        response = client.api.post(f"{client.api.base_url}/v1.51/build/prune?{query}")
        client.close()
        assert response.status_code == 400
        assert sentence in response.json()["message"]


def test_the_host_as_base(engine: Engine, context: Path) -> None:
    write(context, "FROM host\nRUN python3 -c 'print(6 * 7)' > /answer\nCMD cat /answer\n")
    build(engine, context, "-q", "-t", "on-host", client="wherry")
    assert output_of(engine, "on-host") == "42\n"


@pytest.mark.parametrize("step", ["RUN apt-get update\nRUN apt-get install -y curl"])
def test_the_tutorial_build(
    engine: Engine, node: str, context: Path, client: str, step: str
) -> None:
    write(context, f"FROM {node}\n{step}\n")
    build(engine, context, "-t", "node-with-curl:lts-slim", client=client)
    began = time.monotonic()
    again = build(engine, context, "-t", "node-with-curl:lts-slim", client=client)
    assert time.monotonic() - began < 3.0
    assert again.count("Using cache" if client == "docker" else "CACHED") == 2
    done = engine.run(
        "docker", "run", "--rm", "--entrypoint", "curl", "node-with-curl:lts-slim", check=False
    )
    assert done.returncode == 2
    assert "curl: try 'curl --help'" in done.stderr


def test_a_cache_source_that_no_image_can_be(engine: Engine, busybox: str, context: Path) -> None:
    write(context, f"FROM {busybox}\nRUN echo 1\n")
    assert "Successfully built" in build(engine, context, "-t", "odd", "--cache-from", "x y")


def test_a_dockerfile_and_names_that_are_no_utf8(
    engine: Engine, busybox: str, client: str, context: Path
) -> None:
    (context / "Dockerfile").write_bytes(
        f"FROM {busybox}\nRUN printf 'a\xffb' > /x\n".encode("latin-1")
    )
    build(engine, context, "-t", "no-utf8", client=client)
    assert engine.docker_bytes("run", "--rm", "no-utf8", "cat", "/x") == "a\ufffdb".encode()
    (context / "Dockerfile").write_bytes(b"FROM \xff\n")
    assert "failed to parse stage name" in refuse(engine, context, client=client)
    (context / "Dockerfile").write_text(f"FROM {busybox}\nCOPY cafe /\n")
    Path(os.fsdecode(os.fsencode(context) + b"/caf\xe9")).write_text("")
    assert "file not found in build context" in refuse(engine, context, client=client)


def test_files_of_a_build_that_failed_are_removed(
    engine: Engine, busybox: str, context: Path
) -> None:
    write(context, f"FROM {busybox}\nCOPY a /\n", a="1")
    words = ("-o", f"type=tar,dest={context.parent}/x.tar", "--cache-to")
    told = refuse(engine, context, *words, "type=registry,ref=127.0.0.1:1/none", client="wherry")
    assert "connection refused" in told
    assert not list((engine.root / "tmp").glob("build-output-*"))
