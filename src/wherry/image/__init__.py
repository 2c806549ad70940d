"""Images as data: references, content store, tags, views, archives, layers and snapshots."""
