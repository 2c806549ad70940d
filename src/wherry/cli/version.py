"""What this client says of itself."""

from __future__ import annotations

VERSION = "0.1.0"
BUILD = "python"
API_VERSION = "1.51"
