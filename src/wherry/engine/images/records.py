"""The persisted records of the image service. Everything else about an image is in its config's blob."""

from __future__ import annotations

from dataclasses import dataclass

from wherry.model.image import Descriptor, Digest, Image, ImageId
from wherry.model.oci_image import MANIFEST_TYPES


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecord:
    """One complete image.

    `blobs` are all the content digests that it needs: config, manifests, indexes, layers as they came.
    `manifest` is None for an image that never had one.
    """

    id: ImageId
    manifest: Descriptor | None = None
    blobs: tuple[Digest, ...] = ()
    parent: str = ""
    created_here: str = ""  # RFC 3339: when this engine took it in
    last_tag_time: str = "0001-01-01T00:00:00Z"
    comment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NameRecord:
    """What a canonical name (`docker.io/library/node:lts`, or `…@sha256:…`) points to.

    `target` is what a registry calls by that name: an index, or a manifest. `images` are its platforms
    that are here, the most recently pulled first; the first is what the name means by default.
    """

    images: tuple[ImageId, ...]
    target: Descriptor | None = None

    def manifest_of(self, image: Image) -> Descriptor | None:
        """What the name means of one of its images, which other names may mean in another form."""
        if self.target is not None and self.target.media_type in MANIFEST_TYPES:
            return self.target
        return image.manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotRecord:
    """A writable directory over an image, by its key (a container's id, or a build step's)."""

    image_id: str = ""  # empty: over nothing
    diff_ids: tuple[Digest, ...] = ()
    volatile: bool = False
    over_host: bool = False  # the machine's own root is below all layers
