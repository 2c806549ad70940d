"""What a build gives beside its image: files here, until the client has read them."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from wherry.engine.build.layers import Chain, Workspace
from wherry.engine.build.records import Output
from wherry.engine.images import Images
from wherry.engine.images.exporting import Choice
from wherry.engine.images.worker import run_image_worker
from wherry.image.config import build_index
from wherry.image.digest import digest_of
from wherry.image.reference import Reference
from wherry.image.save import build_members
from wherry.lib.jsonvalue import JsonValue
from wherry.model.errors import InvalidArgument, NotFound
from wherry.model.image import Descriptor, Digest, Image, Platform
from wherry.model.oci_image import OCI_INDEX
from wherry.model.platforms import format_platform

_TREES = frozenset({"local", "tar"})
_ARCHIVES = frozenset({"oci", "docker"})
WAITING_S = 3600.0
LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What a build came to, by platform; `target` is what its names mean."""

    roots: tuple[tuple[Chain, Platform], ...]
    images: tuple[Image, ...]
    target: Descriptor | None
    names: tuple[Reference, ...]


def check_outputs(outputs: Sequence[Output]) -> None:
    """Raises InvalidArgument for a kind that nobody can write."""
    for output in outputs:
        if output.type not in {"image", *_TREES, *_ARCHIVES}:
            raise InvalidArgument(f'exporter "{output.type}" could not be found')


def needs_image(outputs: Sequence[Output]) -> bool:
    """Whether an image has to be made for them, be it for a moment."""
    return not outputs or any(output.type not in _TREES for output in outputs)


def keeps_image(outputs: Sequence[Output]) -> bool:
    """Whether the image stays in the store."""
    return not outputs or any(output.type == "image" for output in outputs)


class Outputs:
    """The files of one engine. What nobody fetches is removed after some time, or at the next start."""

    def __init__(self, images: Images, workspace: Workspace) -> None:
        self._images = images
        self._workspace = workspace
        self._waiting: dict[str, Path] = {}

    @contextlib.contextmanager
    def _writing(self) -> Iterator[IO[bytes]]:
        """A new file, which is not there any more when it could not be written."""
        path = self._images.content.tmp / f"build-output-{secrets.token_hex(8)}"
        try:
            with path.open("wb") as file:
                yield file
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def _offer(self, file: IO[bytes]) -> str:
        """Keeps a file for the client, for some time; answers its name."""
        path = Path(file.name)
        self._waiting[path.name] = path
        asyncio.get_running_loop().call_later(WAITING_S, self.forget, path.name)
        return path.name

    def forget(self, name: str) -> None:
        """Removes a file that nobody will fetch; fine when it is not there."""
        path = self._waiting.pop(name, None)
        if path is not None:
            path.unlink(missing_ok=True)

    def take(self, name: str) -> Path:
        """The file; the caller removes it. Raises NotFound."""
        path = self._waiting.pop(name, None)
        if path is None:
            raise NotFound(f"no such build output: {name}")
        return path

    async def write(self, output: Output, results: Results) -> str:
        """One `--output` as a tar; its name."""
        if output.type in _TREES:
            return await self._write_trees(results.roots)
        images, target = results.images, results.target
        if output.compression is not None:
            images = tuple(
                [await self._images.recompressed(image, output.compression) for image in images]
            )
            target = await self.make_target(images)
        first, *others = images
        choice = Choice(
            image=first,
            names=list(results.names),
            manifest=first.manifest,
            index=target if others else None,
            platforms=tuple(others),
        )
        with self._writing() as file:
            async for piece in self._images.save_as([choice]):
                file.write(piece)
        return self._offer(file)

    async def make_target(self, images: Sequence[Image]) -> Descriptor | None:
        """What the names mean: the image's manifest, or an index of several."""
        if len(images) < 2:
            return images[0].manifest if images else None
        data = build_index(
            [
                replace(image.manifest, platform=image.platform)
                for image in images
                if image.manifest is not None
            ]
        )
        digest = digest_of(data)
        await self._images.put_blob(digest, data)
        return Descriptor(media_type=OCI_INDEX, digest=digest, size=len(data))

    async def _write_trees(self, roots: Sequence[tuple[Chain, Platform]]) -> str:
        """Several platforms' files are in a folder each."""
        described: list[JsonValue] = []
        for chain, platform in roots:
            trees = await self._workspace.trees(chain)
            name = format_platform(platform).replace("/", "_")
            described.append(
                {
                    "prefix": f"{name}/" if len(roots) > 1 else "",
                    "trees": [str(tree) for tree in trees],
                }
            )
        with self._writing() as file:
            await run_image_worker(
                "wherry.image.layer.diff:export",
                {"roots": described, "output": file.fileno()},
                fds=(file.fileno(),),
            )
        return self._offer(file)

    async def write_layout(self, top: Descriptor, blobs: Sequence[Digest]) -> str:
        """An OCI layout as a tar; its name."""
        members = build_members(
            {"index.json": build_index([top]), "oci-layout": LAYOUT},
            dict.fromkeys(blobs, 0),
            {digest: self._images.layer_tar(digest) for digest in blobs},
        )
        with self._writing() as file:
            await run_image_worker(
                "wherry.image.save:save",
                {"members": members, "output": file.fileno()},
                fds=(file.fileno(),),
            )
        return self._offer(file)
