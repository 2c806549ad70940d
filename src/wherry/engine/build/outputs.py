"""What a build gives beside its image: files here, until the client has read them."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

from wherry.engine.build.layers import Chain, Workspace
from wherry.engine.build.records import Output
from wherry.engine.images import Images
from wherry.engine.images.exporting import Choice
from wherry.engine.images.worker import run_image_worker
from wherry.image.reference import Reference
from wherry.lib.jsonvalue import JsonValue
from wherry.model.errors import InvalidArgument, NotFound
from wherry.model.image import Image, Platform

_TREES = frozenset({"local", "tar"})
_ARCHIVES = frozenset({"oci", "docker"})
Result = tuple[Chain, Platform, Image | None]


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
    """The files of one engine. What nobody fetches is removed at the next start."""

    def __init__(self, images: Images, workspace: Workspace) -> None:
        self._images = images
        self._workspace = workspace
        self._waiting: dict[str, Path] = {}

    def new_path(self) -> Path:
        """Where a file can be made."""
        return self._images.content.tmp / f"build-output-{secrets.token_hex(8)}"

    def offer(self, path: Path) -> str:
        """Keeps a file for the client; answers its name."""
        self._waiting[path.name] = path
        return path.name

    def take(self, name: str) -> Path:
        """The file; the caller removes it. Raises NotFound."""
        path = self._waiting.pop(name, None)
        if path is None:
            raise NotFound(f"no such build output: {name}")
        return path

    async def write(
        self, output: Output, results: Sequence[Result], names: tuple[Reference, ...]
    ) -> str:
        """One `--output` as a tar; several platforms' files are in a folder each."""
        path = self.new_path()
        with path.open("wb") as file:
            if output.type in _TREES:
                roots: list[JsonValue] = []
                for chain, platform, _ in results:
                    name = f"{platform.os}_{platform.architecture}"
                    name += f"_{platform.variant}" if platform.variant else ""
                    trees = await self._workspace.trees(chain)
                    roots.append(
                        {
                            "prefix": f"{name}/" if len(results) > 1 else "",
                            "trees": [str(tree) for tree in trees],
                        }
                    )
                await run_image_worker(
                    "wherry.image.layer.diff:export",
                    {"roots": roots, "output": file.fileno()},
                    fds=(file.fileno(),),
                )
            else:
                chosen = [
                    Choice(image=image, names=list(names))
                    for _, _, image in results
                    if image is not None
                ]
                async for piece in self._images.save_as(chosen):
                    file.write(piece)
        return self.offer(path)
