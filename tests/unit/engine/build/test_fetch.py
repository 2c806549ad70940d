"""Downloads of ADD and remote contexts: kept by content, whatever becomes of the URL meanwhile."""

from __future__ import annotations

import asyncio
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.engine.build.fetch import Fetcher
from wherry.model.errors import Internal


class Site(http.server.ThreadingHTTPServer):
    """One file, whose ETag is its content."""

    content = b""
    bodies = 0


class Handler(http.server.BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        content = self.server.content
        if self.path == "/always-304" or self.headers.get("If-None-Match") == content.decode():
            self.send_response(304)
            self.end_headers()
            return
        self.server.bodies += 1
        self.send_response(200)
        self.send_header("ETag", content.decode())
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        """Quiet."""


@pytest.fixture
def site() -> Iterator[Site]:
    with Site(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = False  # those are not waited for when it closes
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def test_an_answer_to_a_question_that_was_not_asked(tmp_path: Path, site: Site) -> None:
    url = f"http://127.0.0.1:{site.server_address[1]}/always-304"
    with pytest.raises(Internal, match="invalid response status 304"):
        asyncio.run(Fetcher(tmp_path).get(url))


def get(fetcher: Fetcher, site: Site, content: bytes) -> Path:
    site.content = content
    fetched = asyncio.run(fetcher.get(f"http://127.0.0.1:{site.server_address[1]}/file"))
    assert fetched.path.read_bytes() == content
    assert fetched.name == "file"
    return fetched.path


def test_a_url_that_changes_while_a_build_has_it(tmp_path: Path, site: Site) -> None:
    fetcher = Fetcher(tmp_path)
    old = get(fetcher, site, b"old")
    new = get(fetcher, site, b"new")
    assert old.read_bytes() == b"old"
    assert get(fetcher, site, b"new") == new
    assert site.bodies == 2


def test_the_next_engine_keeps_what_is_current(tmp_path: Path, site: Site) -> None:
    fetcher = Fetcher(tmp_path)
    old, new = get(fetcher, site, b"old"), get(fetcher, site, b"new")
    torn = new.with_name("torn")
    torn.write_bytes(b"half")
    fetcher = Fetcher(tmp_path)
    assert not old.exists()
    assert not torn.exists()
    assert get(fetcher, site, b"new") == new
    assert site.bodies == 2
    new.unlink()
    get(fetcher, site, b"new")
    assert site.bodies == 3
