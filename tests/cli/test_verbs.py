"""Verbs against a scripted engine: requests, text, exit codes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from wherry.cli.commands import COMMON, GROUPS, OTHERS

CONTAINERS: list[dict[str, object]] = [
    {
        "Id": "c0ffee" * 10 + "abcd",
        "Names": ["/angry_babbage", "/other/link"],
        "Image": "node:lts-slim",
        "ImageID": "sha256:" + "1" * 64,
        "Command": "docker-entrypoint.sh node server.js",
        "Created": 0,
        "Ports": [
            {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
            {"PrivatePort": 443, "Type": "tcp"},
        ],
        "Labels": {"b": "2", "a": "1"},
        "State": "exited",
        "Status": "Exited (0) 5 minutes ago",
        "HostConfig": {"NetworkMode": "bridge"},
        "NetworkSettings": {"Networks": {"bridge": {}}},
        "Mounts": [{"Type": "volume", "Name": "v" * 20, "Driver": "local"}],
        "SizeRw": 1234567,
        "SizeRootFs": 200_000_000,
    },
    {
        "Id": "d" * 64,
        "Names": ["/b"],
        "Image": "sha256:" + "2" * 64,
        "ImageID": "sha256:" + "2" * 64,
        "Command": "sh",
        "Created": 0,
        "Ports": [],
        "Labels": {},
        "State": "running",
        "Status": "Up 2 hours",
        "NetworkSettings": {"Networks": {}},
        "Mounts": [],
    },
]


@pytest.fixture
def containers(engine) -> list[dict[str, object]]:
    """Two containers, one made five minutes ago."""
    now = int(time.time())
    listed = [{**item, "Created": now - 310} for item in CONTAINERS]
    engine.answer("GET /containers/json", listed)
    return listed


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ps", ["ps", "-a"]),
        ("ps-size", ["ps", "-a", "-s"]),
        ("ps-no-trunc", ["container", "ls", "--no-trunc"]),
        ("ps-quiet", ["ps", "-aq"]),
        ("ps-template", ["ps", "--format", '{{.ID}} {{.Names}} {{.Ports}} {{.Label "a"}}']),
        (
            "ps-table",
            ["ps", "--format", 'table {{.Names}}\\t{{.Networks}}\\t{{.Mounts}}\\t{{.Label "a"}}'],
        ),
    ],
)
def test_ps(
    engine, containers, wherry, golden: Callable[[str, str], None], name: str, words: list[str]
) -> None:
    code, out, err = wherry(*words)
    assert (code, err) == (0, "")
    golden(name, out)


def test_ps_without_containers_shows_the_header(engine, wherry) -> None:
    engine.answer("GET /containers/json", [])
    assert wherry("ps")[1] == (
        "CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES\n"
    )


def test_filters_and_limits_of_ps(engine, wherry) -> None:
    engine.answer("GET /containers/json", [])
    wherry("ps", "-a", "-n", "3", "-f", "status=exited", "-f", "status=dead")
    assert engine.requests[-1][0] == (
        "GET /containers/json?all=1&limit=3"
        "&filters=%7B%22status%22:%7B%22exited%22:true,%22dead%22:true%7D%7D"
    )


@pytest.mark.parametrize(
    ("verb", "request_line"),
    [
        ("start", "POST /containers/{}/start"),
        ("stop", "POST /containers/{}/stop"),
        ("kill", "POST /containers/{}/kill"),
        ("pause", "POST /containers/{}/pause"),
        ("rm", "DELETE /containers/{}"),
    ],
)
def test_verbs_go_on_after_a_failure(engine, wherry, verb: str, request_line: str) -> None:
    engine.answer(request_line.format("a"), None, 204)
    engine.answer(request_line.format("b"), {"message": "No such container: b"}, 404)
    engine.answer(request_line.format("c"), None, 204)
    code, out, err = wherry(verb, "a", "b", "c")
    assert code == 1
    assert out == "a\nc\n"
    assert err.startswith("Error response from daemon: No such container: b\n")


def test_stop_gives_the_timeout_and_the_signal(engine, wherry) -> None:
    engine.answer("POST /containers/a/stop", None, 204)
    wherry("stop", "-t", "0", "-s", "INT", "a")
    assert engine.requests[-1][0] == "POST /containers/a/stop?t=0&signal=INT"


def test_prune_asks_removes_and_says_what_it_reclaimed(
    engine, wherry, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.answer(
        "POST /containers/prune", {"ContainersDeleted": ["x", "y"], "SpaceReclaimed": 1230000}
    )
    answers = iter([b"y", b"\n"])
    monkeypatch.setattr("os.read", lambda _fd, _size: next(answers))
    code, out, _ = wherry("container", "prune")
    assert code == 0
    assert out == (
        "WARNING! This will remove all stopped containers.\n"
        "Are you sure you want to continue? [y/N] Deleted Containers:\nx\ny\n\n"
        "Total reclaimed space: 1.23MB\n"
    )


def test_prune_does_nothing_without_a_yes(engine, wherry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.read", lambda _fd, _size: b"")
    assert wherry("container", "prune")[0] == 0
    assert engine.requests == []


def test_inspect_of_several_kinds(engine, wherry) -> None:
    engine.answer("GET /images/i/json", {"Id": "sha256:1", "RepoTags": ["i:latest"]})
    code, out, err = wherry("inspect", "i", "nope")
    assert code == 1
    assert (
        out
        == '[\n    {\n        "Id": "sha256:1",\n        "RepoTags": [\n            "i:latest"\n        ]\n    }\n]\n'
    )
    assert err == "Error: No such object: nope\n"
    assert wherry("inspect", "-f", "{{index .RepoTags 0}}", "i")[1] == "i:latest\n"
    assert wherry("inspect", "-s", "i")[2] == "WARNING: --size ignored for image\n"


def test_create_pulls_what_is_missing(engine, wherry) -> None:
    engine.answer("POST /containers/create", {"message": "No such image: x:latest"}, 404)
    engine.answer(
        "POST /images/create",
        [
            "stream",
            {"status": "Pulling from library/x", "id": "latest"},
            {"error": "gone", "errorDetail": {"message": "gone"}},
        ],
    )
    code, out, err = wherry("create", "x")
    assert (code, out) == (1, "")
    assert err == "Unable to find image 'x:latest' locally\nlatest: Pulling from library/x\ngone\n"
    assert engine.requests[1][0] == (
        "POST /images/create?fromImage=docker.io%2Flibrary%2Fx&tag=latest"
    )


def test_pull_never_does_not(engine, wherry) -> None:
    engine.answer("POST /containers/create", {"message": "No such image: x:latest"}, 404)
    code, _, err = wherry("create", "--pull", "never", "x")
    assert (code, err) == (1, "Error response from daemon: No such image: x:latest\n")


def test_run_detached(engine, wherry, tmp_path: Path) -> None:
    engine.answer("POST /containers/create", {"Id": "abc", "Warnings": ["careful"]}, 201)
    engine.answer("POST /containers/abc/start", None, 204)
    cidfile = tmp_path / "cid"
    code, out, err = wherry("run", "-d", "--cidfile", str(cidfile), "--name", "n", "x", "ls", "-l")
    assert (code, out, err) == (0, "abc\n", "WARNING: careful\n")
    assert cidfile.read_text() == "abc"
    request, body = engine.requests[0]
    assert request == "POST /containers/create?name=n"
    assert body["Cmd"] == ["ls", "-l"]
    assert (body["AttachStdout"], body["OpenStdin"]) == (False, False)


def test_a_failed_create_leaves_no_cidfile(engine, wherry, tmp_path: Path) -> None:
    engine.answer("POST /containers/create", {"message": "no"}, 400)
    cidfile = tmp_path / "cid"
    code, _, err = wherry("run", "-d", "--cidfile", str(cidfile), "x")
    assert code == 125
    assert err == (
        "wherry: Error response from daemon: no\n\nRun 'wherry run --help' for more information\n"
    )
    assert not cidfile.exists()


@pytest.mark.parametrize(
    ("sentence", "code"),
    [("executable file not found in $PATH", 127), ("permission denied", 126), ("whatever", 125)],
)
def test_a_start_that_is_refused(engine, wherry, sentence: str, code: int) -> None:
    engine.answer("POST /containers/create", {"Id": "abc"}, 201)
    engine.answer("POST /containers/abc/start", {"message": sentence}, 400)
    found, out, err = wherry("run", "-d", "x")
    assert (found, out) == (code, "abc\n")
    assert err.startswith(f"wherry: Error response from daemon: {sentence}\n")


def test_images(engine, wherry, golden: Callable[[str, str], None]) -> None:
    engine.answer(
        "GET /images/json",
        [
            {
                "Id": "sha256:" + "1" * 64,
                "RepoTags": ["node:lts-slim", "n:1"],
                "RepoDigests": [],
                "Created": 5,
                "Size": 352_000_000,
            },
            {
                "Id": "sha256:" + "2" * 64,
                "RepoTags": [],
                "RepoDigests": [],
                "Created": 1,
                "Size": 1_982_425,
            },
        ],
    )
    code, out, _ = wherry(
        "images", "--format", "table {{.Repository}}\\t{{.Tag}}\\t{{.ID}}\\t{{.Size}}"
    )
    assert code == 0
    golden("images", out)


def test_events_end_with_the_stream(engine, wherry) -> None:
    engine.answer(
        "GET /events",
        [
            "stream",
            {
                "Type": "container",
                "Action": "start",
                "Actor": {"ID": "x", "Attributes": {}},
                "timeNano": 1,
            },
        ],
    )
    code, out, _ = wherry("events", "--until", "5")
    assert (code, out) == (0, "1970-01-01T00:00:00.000000001Z container start x\n")


def test_the_check_says_what_is_wrong(engine, wherry) -> None:
    engine.answer(
        "POST /wherry/check",
        ["stream", {"checking": "sha256:1"}, {"checking": "sha256:2"}, {"problems": []}],
    )
    assert wherry("system", "check")[:2] == (0, "2 blobs and layers checked, no problem found\n")
    engine.answer("POST /wherry/check", ["stream", {"problems": ["blob x is missing"]}])
    code, out, err = wherry("system", "check")
    assert (code, out, err) == (1, "", "blob x is missing\n")


def test_login_keeps_an_account_that_the_registry_takes(
    engine, wherry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.answer("POST /auth", {"Status": "Login Succeeded"})
    code, out, err = wherry("login", "-u", "me", "-p", "secret", "localhost:5000")
    assert code == 0
    assert out == "Login Succeeded\n"
    assert "Using --password via the CLI is insecure" in err
    config = tmp_path / "config" / "config.json"
    assert '"auth": "bWU6c2VjcmV0"' in config.read_text()
    assert config.stat().st_mode & 0o777 == 0o600
    assert wherry("logout", "localhost:5000")[1] == (
        "Removing login credentials for localhost:5000\n"
    )
    assert "bWU6c2VjcmV0" not in config.read_text()
    removing = "Removing login credentials for localhost:5000\n"
    assert wherry("logout", "localhost:5000")[1] == removing


ALL_VERBS = [
    *([name] for name in {**COMMON, **OTHERS}),
    *([group, name] for group, (verbs, _) in GROUPS.items() for name in verbs),
]


@pytest.mark.parametrize("words", ALL_VERBS, ids=" ".join)
def test_every_verb_has_help(wherry, words: list[str]) -> None:
    code, out, err = wherry(*words, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage:  wherry {' '.join(words)}")


@pytest.mark.parametrize("name", ["run", "ps", "cp"])
def test_help(
    wherry, golden: Callable[[str, str], None], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wherry.cli.help.terminal_width", lambda: 80)
    golden(f"help-{name}", wherry(name, "--help")[1])


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (
            ["foo"],
            1,
            "wherry: unknown command: wherry foo\n\nRun 'wherry --help' for more information\n",
        ),
        (
            ["container", "foo"],
            1,
            (
                "wherry: unknown command: wherry container foo\n\nUsage:  wherry container\n\n"
                "Run 'wherry container --help' for more information\n"
            ),
        ),
        (
            ["run", "--foo"],
            125,
            (
                "unknown flag: --foo\n\nUsage:  wherry run [OPTIONS] IMAGE [COMMAND] [ARG...]\n\n"
                "Run 'wherry run --help' for more information\n"
            ),
        ),
        (
            ["run", "--restart", "always", "--rm", "x"],
            125,
            (
                "wherry: conflicting options: cannot specify both --restart and --rm\n\n"
                "Run 'wherry run --help' for more information\n"
            ),
        ),
        (
            ["run", "-d", "-a", "stdout", "x"],
            1,
            "conflicting options: cannot specify both --attach and --detach\n",
        ),
        (["cp", "a", "b"], 1, "must specify at least one container source\n"),
        (["help", "nope"], 1, "unknown help topic: nope\n"),
    ],
)
def test_command_lines_that_make_no_sense(
    wherry, words: list[str], code: int, sentence: str
) -> None:
    assert wherry(*words) == (code, "", sentence)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ru"], ["run"]),
        (["container", "p"], ["pause", "port", "prune", "ps"]),
        (["ps", "--no"], ["--no-trunc"]),
        (["rm", "a"], ["angry_babbage"]),
        (["container", "rm", "x", ""], ["angry_babbage", "b"]),
        (["run", "n"], ["node:lts-slim"]),
        (["run", "node:lts-slim", "a"], []),
        (["network", "rm", ""], ["bridge"]),
        (["nope", ""], []),
    ],
)
def test_completion(engine, containers, wherry, words: list[str], expected: list[str]) -> None:
    engine.answer("GET /images/json", [{"RepoTags": ["node:lts-slim"]}, {"RepoTags": []}])
    engine.answer("GET /networks", [{"Name": "bridge"}])
    code, out, _ = wherry("__complete", *words)
    assert (code, out.split()) == (0, expected)


def test_completion_scripts(wherry) -> None:
    assert "complete -F _wherry wherry" in wherry("completion", "bash")[1]
    assert "bashcompinit" in wherry("completion", "zsh")[1]
    assert wherry("completion", "fish")[0] == 1
