"""What a build made, as text: files with modes and owners, config, history; the same whoever built it.

    python -m tests.harness.built_image TAG     describes an image of the engine that DOCKER_HOST names

BuildKit's answers lie beside the Dockerfiles in tests/data/builds as `buildkit.json`.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile

# What BuildKit leaves in layers of RUN because it mounts there; those who mount nothing in the image leave nothing.
MOUNT_POINTS = frozenset({"dev", "proc", "sys", "etc", "etc/hosts", "etc/resolv.conf"})
CHANGING = frozenset({"Hostname", "Image"})


def describe(archive: bytes, base_layers: int) -> dict[str, object]:
    """The description of the one image in a `docker save`, without the layers that its base has."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        manifest = json.loads(_read(tar, "manifest.json"))[0]
        config = json.loads(_read(tar, manifest["Config"]))
        files: dict[str, str] = {}
        for name in manifest["Layers"][base_layers:]:
            with tarfile.open(fileobj=io.BytesIO(_read(tar, name))) as layer:
                _apply(layer, files)
    history = [entry for entry in config["history"] if entry.get("comment", "").startswith("buil")]
    return {
        "config": {
            key: value
            for key, value in sorted(config["config"].items())
            if key not in CHANGING and value not in (None, "", [], {}, False)
        },
        "history": [
            f"{'- ' if entry.get('empty_layer') else '+ '}{entry['created_by']}"
            for entry in history
        ],
        "author": config.get("author", ""),
        "files": dict(sorted(files.items())),
    }


def _read(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    assert file is not None
    return file.read()


def _apply(layer: tarfile.TarFile, files: dict[str, str]) -> None:
    """Merges a layer: later entries win, whiteouts stay visible."""
    for member in layer:
        path = member.name.removeprefix("./").rstrip("/")
        if not path or path in MOUNT_POINTS:
            continue
        owner = f"{member.mode:o} {member.uid}:{member.gid}"
        if member.islnk():
            files[path] = files.get(member.linkname, f"link {member.linkname}")
        elif member.issym():
            files[path] = f"l {member.uid}:{member.gid} -> {member.linkname}"
        elif member.isdir():
            files[path] = f"d {owner}"
        elif member.isfile():
            file = layer.extractfile(member)
            assert file is not None
            files[path] = f"f {owner} {hashlib.sha256(file.read()).hexdigest()[:16]}"
        else:
            files[path] = f"{member.type!r} {owner}"


def save(tag: str) -> bytes:
    """`docker save`."""
    return subprocess.run(["docker", "save", tag], capture_output=True, check=True).stdout


if __name__ == "__main__":
    base = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    sys.stdout.write(json.dumps(describe(save(sys.argv[1]), base), indent=1) + "\n")
