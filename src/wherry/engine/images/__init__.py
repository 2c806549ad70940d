"""The image service and the records that its callers meet."""

from wherry.engine.images.removal import Deleted, ImageUser
from wherry.engine.images.service import Images

__all__ = ["Deleted", "ImageUser", "Images"]
