"""What goes wrong between us and a registry: cut connections, lies about content, quotas, redirects, tokens."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from tests.harness.fake_images import FakeImages
from tests.harness.registry import (
    OCI_INDEX,
    TestImage,
    digest_of,
    make_image,
    make_index,
    running_registry,
)
from tests.harness.registry_services import (
    QUICK,
    Services,
    pull,
    push,
    sentences,
    with_services,
)
from tests.harness.stub_registry import (
    Answer,
    Cutter,
    Request,
    StubRegistry,
    error,
    random_budgets,
    running_stub,
)

from wherry.engine.pull import PullRequest
from wherry.engine.push import PushRequest
from wherry.image.content import BadContent
from wherry.image.reference import parse_reference
from wherry.model.errors import EngineError
from wherry.model.image import Descriptor, Digest, ImageId
from wherry.registry.auth import Authorizer, Credentials
from wherry.registry.challenge import Challenge
from wherry.registry.endpoints import Endpoint, build_registry_config
from wherry.registry.errors import ContentMismatch
from wherry.registry.retry import RetryPolicy
from wherry.registry.transport import Transport, redact

PATIENT = RetryPolicy(max_attempts=30, first_delay_s=0.001, max_delay_s=0.002)


@pytest.fixture
def stub() -> Iterator[StubRegistry]:
    with running_stub() as running:
        yield running


def test_fifty_cut_connections_and_killed_engines_end_in_a_whole_image(tmp_path: Path) -> None:
    with running_registry() as server:
        image = make_image([{"a": os.urandom(1_500_000)}, {"b": os.urandom(700_000)}])
        server.put_image("app/cut", "v1", image)
        cuts = kills = 0
        for seed in range(50):
            images = FakeImages(tmp_path / str(seed) / "images")
            cutter = Cutter(server.port, random_budgets(seed, 900_000))
            try:
                reference = parse_reference(f"{cutter.host}/app/cut:v1")
                kills += pull_until_killed(images, reference.canonical(), seed)
                images.verify()
                lines = pull(images, reference.canonical(), policy=PATIENT)
            finally:
                cutter.close()
            cuts += cutter.cuts
            assert sentences(lines)[-1].startswith("Status: Downloaded newer image")
            assert images.images[reference.canonical()] == image.config
            images.verify()
        assert cuts > 50
        assert kills > 10


def pull_until_killed(images: FakeImages, name: str, seed: int) -> bool:
    """Starts a pull and gives it up at a random progress line; whether there was something to give up."""

    async def work(services: Services) -> bool:
        steps = random.Random(seed).randrange(2, 10)
        pulling = services.pulls.pull(PullRequest(reference=parse_reference(name)))
        async for _ in pulling:
            steps -= 1
            if steps == 0:
                await pulling.aclose()
                return True
        return False

    return with_services(images, work, policy=PATIENT)


def test_a_download_goes_on_where_an_earlier_engine_left_it(
    stub: StubRegistry, images: FakeImages
) -> None:
    image = make_image([{"a": os.urandom(500_000)}])
    stub.add_image("v1", image)
    layer = Digest(image.layers[0])
    images.partial_path(layer).write_bytes(image.blobs[layer][:200_000])
    pull(images, f"{stub.host}/app:v1")
    assert [r.headers.get("range") for r in stub.asked("GET", layer)] == ["bytes=200000-"]
    images.verify()


def test_a_server_that_ignores_ranges_is_read_from_the_start(
    stub: StubRegistry, images: FakeImages
) -> None:
    image = make_image([{"a": os.urandom(500_000)}])
    stub.add_image("v1", image)
    stub.ignore_range = True
    layer = Digest(image.layers[0])
    images.partial_path(layer).write_bytes(image.blobs[layer][:200_000])
    pull(images, f"{stub.host}/app:v1")
    images.verify()


def test_a_damaged_partial_download_is_thrown_away(stub: StubRegistry, images: FakeImages) -> None:
    image = make_image([{"a": os.urandom(500_000)}])
    stub.add_image("v1", image)
    layer = Digest(image.layers[0])
    images.partial_path(layer).write_bytes(b"\0" * 200_000)
    pull(images, f"{stub.host}/app:v1")
    assert [r.headers.get("range") for r in stub.asked("GET", layer)] == ["bytes=200000-", None]
    images.verify()


def test_a_connection_that_breaks_early_is_taken_up_again(
    stub: StubRegistry, images: FakeImages
) -> None:
    image = make_image([{"a": os.urandom(500_000)}])
    stub.add_image("v1", image)
    layer = Digest(image.layers[0])
    cuts = [100_000]

    def cut(request: Request) -> Answer | None:
        if layer in request.path and cuts:
            return Answer(body=image.blobs[layer], cut_after=cuts.pop())
        return None

    stub.rules.append(cut)
    pull(images, f"{stub.host}/app:v1")
    assert [r.headers.get("range") for r in stub.asked("GET", layer)] == [None, "bytes=100000-"]


def test_other_bytes_than_the_digest_says_are_refused(
    stub: StubRegistry, images: FakeImages
) -> None:
    image = make_image([{"a": os.urandom(5000)}])
    stub.add_image("v1", image)
    layer = image.layers[0]
    stub.blobs[layer] = os.urandom(len(image.blobs[layer]))
    with pytest.raises(BadContent, match="verification failed"):
        pull(images, f"{stub.host}/app:v1")
    assert not images.images
    assert not images.has_blob(Digest(layer))


@pytest.mark.parametrize("change", [b"", b"more than was announced"])
def test_another_size_than_the_manifest_says_is_refused(
    stub: StubRegistry, images: FakeImages, change: bytes
) -> None:
    image = make_image([{"a": os.urandom(5000)}])
    stub.add_image("v1", image)
    layer = image.layers[0]
    stub.blobs[layer] = image.blobs[layer] + change if change else image.blobs[layer][:-1]
    with pytest.raises(EngineError, match="bytes, the manifest says"):
        pull(images, f"{stub.host}/app:v1")
    assert not images.images


def test_an_endless_blob_is_cut_off(stub: StubRegistry, images: FakeImages) -> None:
    image = make_image([{"a": os.urandom(5000)}])
    stub.add_image("v1", image)
    layer = image.layers[0]

    def endless(request: Request) -> Answer | None:
        if layer not in request.path:
            return None
        piece = image.blobs[layer].ljust(100_000, b"\0")
        body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for _ in range(50))
        return Answer(headers={"Transfer-Encoding": "chunked"}, body=body)

    stub.rules.append(endless)
    with pytest.raises(EngineError, match="is longer than the"):
        pull(images, f"{stub.host}/app:v1")
    assert images.partial_path(Digest(layer)).stat().st_size <= len(image.blobs[layer])


def test_a_manifest_of_another_digest_is_refused(stub: StubRegistry, images: FakeImages) -> None:
    image, other = make_image([{"a": b"1"}]), make_image([{"a": b"2"}])
    stub.add_image("v1", other)
    stub.manifests[image.digest] = (other.media_type, other.manifest)
    with pytest.raises(
        EngineError, match=f"manifest verification failed for digest {image.digest}"
    ):
        pull(images, f"{stub.host}/app@{image.digest}")


def test_a_manifest_of_another_digest_than_its_header_is_refused(
    stub: StubRegistry, images: FakeImages
) -> None:
    image = make_image([{"a": b"1"}])
    wrong = digest_of(b"other")
    stub.rules.append(
        lambda request: (
            Answer(
                headers={"Content-Type": image.media_type, "Docker-Content-Digest": wrong},
                body=image.manifest,
            )
            if "/manifests/" in request.path
            else None
        )
    )
    with pytest.raises(EngineError, match=f"manifest verification failed for digest {wrong}"):
        pull(images, f"{stub.host}/app:v1")


def test_a_list_that_names_itself_is_refused(stub: StubRegistry, images: FakeImages) -> None:
    entry = {
        "mediaType": OCI_INDEX,
        "digest": "sha256:" + "a" * 64,
        "size": 100,
        "platform": {"os": "linux", "architecture": "amd64"},
    }
    body = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()
    for name in ("v1", "sha256:" + "a" * 64):
        stub.manifests[name] = (OCI_INDEX, body)
    with pytest.raises(EngineError, match="manifest verification failed"):
        pull(images, f"{stub.host}/app:v1")


def test_ten_thousand_layers_are_refused(stub: StubRegistry, images: FakeImages) -> None:
    image = make_image([{"a": b"x"}])
    document = json.loads(image.manifest)
    document["layers"] = document["layers"] * 10_000
    stub.add_image("v1", image)
    stub.manifests["v1"] = (image.media_type, json.dumps(document).encode())
    with pytest.raises(EngineError, match=r"\Amax depth exceeded\Z"):
        pull(images, f"{stub.host}/app:v1")


def test_a_huge_manifest_is_refused(stub: StubRegistry, images: FakeImages) -> None:
    stub.manifests["v1"] = (OCI_INDEX, b" " * (5 << 20))
    with pytest.raises(EngineError, match="is longer than"):
        pull(images, f"{stub.host}/app:v1")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"schemaVersion":2,"config":{},"layers":[]}',
        b'{"schemaVersion":2,"config":{"digest":"sha256:../../etc/passwd","size":1},"layers":[]}',
        b'{"schemaVersion":2,"manifests":[],"layers":[]}',
        b'{"schemaVersion":1,"fsLayers":[]}',
        b"[" * 100_000,
    ],
)
def test_malformed_manifests_are_refused(
    stub: StubRegistry, images: FakeImages, body: bytes
) -> None:
    stub.manifests["v1"] = ("application/json", body)
    with pytest.raises(EngineError):
        pull(images, f"{stub.host}/app:v1")
    assert not images.images


def test_a_spent_quota_is_said_in_the_registrys_words(
    stub: StubRegistry, images: FakeImages
) -> None:
    stub.rules.append(
        lambda _: error(
            429, "TOOMANYREQUESTS", "You have reached your pull rate limit.", Retry_After="21600"
        )
    )
    with pytest.raises(EngineError) as caught:
        pull(images, f"{stub.host}/app:v1")
    assert str(caught.value) == "toomanyrequests: You have reached your pull rate limit."
    assert len(stub.asked("GET", "/manifests/")) == 1


def test_a_short_retry_after_is_waited_for(stub: StubRegistry, images: FakeImages) -> None:
    stub.add_image("v1", make_image([{"a": b"later"}]))
    refusals = [error(429, "TOOMANYREQUESTS", "slow down", Retry_After="0")] * 2
    stub.rules.append(lambda _: refusals.pop() if refusals else None)
    pull(images, f"{stub.host}/app:v1")


def test_passing_trouble_of_a_server_is_tried_again(stub: StubRegistry, images: FakeImages) -> None:
    image = make_image([{"a": b"trouble"}])
    stub.add_image("v1", image)
    troubles = [Answer(status=503), Answer(status=502)]
    stub.rules.append(
        lambda request: troubles.pop() if troubles and image.layers[0] in request.path else None
    )
    pull(images, f"{stub.host}/app:v1")
    assert images.has_blob(Digest(image.layers[0]))


def test_access_denied_is_dockers_sentence(stub: StubRegistry, images: FakeImages) -> None:
    stub.rules.append(lambda _: error(403, "DENIED", "requested access to the resource is denied"))
    with pytest.raises(EngineError) as caught:
        pull(images, f"{stub.host}/app:v1")
    assert str(caught.value) == (
        f"pull access denied for {stub.host}/app, repository does not exist or may require"
        " 'docker login': denied: requested access to the resource is denied"
    )


def test_credentials_do_not_follow_a_redirect_to_another_host(
    stub: StubRegistry, images: FakeImages
) -> None:
    image = make_image([{"a": b"redirected"}])
    stub.add_image("v1", image)
    with running_stub() as storage:
        storage.blobs.update(image.blobs)

        def redirect(request: Request) -> Answer | None:
            if request.headers.get("authorization") is None:
                return Answer(status=401, headers={"WWW-Authenticate": 'Basic realm="r"'})
            if "/blobs/" in request.path:
                location = f"{storage.url}{request.path}?X-Signature=a%2Fb%3D"
                return Answer(status=307, headers={"Location": location})
            return None

        stub.rules.append(redirect)
        pull(images, f"{stub.host}/app:v1", credentials=Credentials(username="u", password="p"))
        assert storage.requests
        for request in storage.requests:
            assert "authorization" not in request.headers
            assert request.query["X-Signature"] == ["a/b="]


def test_a_redirect_circle_ends(stub: StubRegistry, images: FakeImages) -> None:
    stub.rules.append(lambda request: Answer(status=302, headers={"Location": request.path}))
    with pytest.raises(EngineError, match="stopped after 10 redirects"):
        pull(images, f"{stub.host}/app:v1")


def test_credentials_are_not_given_to_a_mirror(stub: StubRegistry, images: FakeImages) -> None:
    stub.rules.append(
        lambda _: Answer(status=401, headers={"WWW-Authenticate": 'Basic realm="mirror"'})
    )
    with running_stub() as origin:
        origin.add_image("v1", make_image([{"a": b"origin"}]))
        config = build_registry_config([f"{origin.host}={stub.url}"])
        pull(
            images,
            f"{origin.host}/app:v1",
            credentials=Credentials(username="u", password="p"),
            config=config,
        )
    assert all("authorization" not in request.headers for request in stub.requests)


def test_a_blob_that_a_mirror_has_lost_comes_from_the_registry(
    stub: StubRegistry, images: FakeImages
) -> None:
    image = make_image([{"a": b"lost by the mirror"}])
    stub.add_image("v1", image)
    del stub.blobs[image.layers[0]]
    with running_stub() as origin:
        origin.add_image("v1", image)
        config = build_registry_config([f"{origin.host}={stub.url}"])
        pull(images, f"{origin.host}/app:v1", config=config)
        assert origin.asked("GET", image.layers[0])
        assert not origin.asked("GET", "/manifests/")


class TokenServer:
    """Rules for a stub: distribution's token authentication, GET and POST forms."""

    def __init__(self, stub: StubRegistry, *, forms: frozenset[str] = frozenset({"GET"})) -> None:
        self.stub = stub
        self.forms = forms
        self.granted: list[tuple[str, list[str]]] = []
        stub.rules.append(self.answer)

    def answer(self, request: Request) -> Answer | None:
        if request.path == "/token":
            return self.grant(request)
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not token.startswith("good:"):
            return error(
                401,
                "UNAUTHORIZED",
                "authentication required",
                WWW_Authenticate=(
                    f'Bearer realm="{self.stub.url}/token",service="svc",'
                    'scope="repository:app:pull"'
                ),
            )
        return None

    def grant(self, request: Request) -> Answer:
        if request.method not in self.forms:
            return Answer(status=404)
        form = parse_qs(request.body.decode()) if request.method == "POST" else request.query
        self.granted.append((request.method, form.get("scope", [])))
        how = form.get("grant_type", ["basic"])[0]
        if how == "refresh_token":
            known = form["refresh_token"] == ["identity"]
        elif how == "password":
            known = (form["username"], form["password"]) == (["u"], ["p"])
        else:
            known = request.headers.get("authorization") in {None, "Basic dTpw"}
        if not known:
            return error(401, "UNAUTHORIZED", "incorrect username or password")
        name = "access_token" if request.method == "POST" else "token"
        document: dict[str, object] = {name: "good:1", "expires_in": 300}
        if "offline_token" in form:
            document["refresh_token"] = "identity"
        return Answer(body=json.dumps(document).encode())


def test_an_anonymous_token_is_fetched_once(stub: StubRegistry, images: FakeImages) -> None:
    tokens = TokenServer(stub)
    stub.add_image("v1", make_image([{"a": b"t1"}, {"b": b"t2"}]))
    pull(images, f"{stub.host}/app:v1")
    assert tokens.granted == [("GET", ["repository:app:pull"])]


@pytest.mark.parametrize(
    ("credentials", "forms", "methods"),
    [
        (Credentials(username="u", password="p"), {"GET"}, ["GET"]),
        (Credentials(username="u", password="p"), {"POST"}, ["POST"]),
        (Credentials(identity_token="identity"), {"POST", "GET"}, ["POST"]),
        (Credentials(username="<token>", identity_token="identity"), {"POST"}, ["POST"]),
        (Credentials(registry_token="good:given"), set(), []),
    ],
)
def test_token_forms(
    stub: StubRegistry,
    images: FakeImages,
    credentials: Credentials,
    forms: set[str],
    methods: list[str],
) -> None:
    tokens = TokenServer(stub, forms=frozenset(forms))
    stub.add_image("v1", make_image([{"a": b"forms"}]))
    pull(images, f"{stub.host}/app:v1", credentials=credentials)
    assert [method for method, _ in tokens.granted] == methods


def test_a_wrong_password_is_said(stub: StubRegistry, images: FakeImages) -> None:
    TokenServer(stub)
    stub.add_image("v1", make_image([{"a": b"wrong"}]))
    with pytest.raises(EngineError, match="unauthorized: incorrect username or password"):
        pull(images, f"{stub.host}/app:v1", credentials=Credentials(username="u", password="wrong"))


def test_a_password_is_not_sent_to_a_realm_in_the_clear() -> None:
    async def main() -> None:
        authorizer = Authorizer(
            Transport(build_registry_config()),
            Endpoint(url="https://registry"),
            Credentials(username="u", password="p"),
        )
        authorizer._challenge = Challenge(
            scheme="bearer", parameters={"realm": "http://registry/token"}
        )
        with pytest.raises(ContentMismatch, match="refused"):
            await authorizer.authorization(["repository:app:pull"])

    asyncio.run(main())


def keep(images: FakeImages, name: str, image: TestImage) -> None:
    """As if it had been built here."""
    for digest, data in image.blobs.items():
        asyncio.run(images.put_blob(Digest(digest), data))
    asyncio.run(images.put_blob(Digest(image.digest), image.manifest))
    images.images[name] = ImageId(image.config)
    images.targets[name] = Descriptor(
        media_type=image.media_type, digest=Digest(image.digest), size=len(image.manifest)
    )


def test_a_cut_upload_is_sent_again(images: FakeImages) -> None:
    # docker-registry 2.8 gives a session up when its connection breaks.
    with running_registry() as server:
        image = make_image([{"a": os.urandom(3_000_000)}])
        cutter = Cutter(server.port, iter([2_000_000] * 3), upwards=True)
        try:
            name = f"{cutter.host}/app/upload:v1"
            keep(images, name, image)
            push(images, name)
        finally:
            cutter.close()
        assert server.get_manifest("app/upload", "v1")[1] == image.manifest
        assert cutter.cuts >= 1


class Uploads:
    """Rules for a stub: upload sessions that outlive their connection, as the specification has them."""

    def __init__(self, stub: StubRegistry) -> None:
        self.stub = stub
        self.sessions: dict[str, bytearray] = {}
        stub.rules.append(self.answer)

    def answer(self, request: Request) -> Answer | None:
        _, _, session = request.path.rpartition("/")
        if request.method == "POST":
            session = str(len(self.sessions))
            self.sessions[session] = bytearray()
            return self.accepted(session, 202)
        if request.method == "PATCH":
            have = self.sessions[session]
            start = int(request.headers.get("content-range", "0").partition("-")[0])
            if start != len(have):
                return Answer(status=416)
            have += request.body
            return self.accepted(session, 202)
        if request.method == "PUT" and "/manifests/" not in request.path:
            data = bytes(self.sessions[session] + request.body)
            if digest_of(data) != request.query["digest"][0]:
                return error(400, "DIGEST_INVALID", "digest invalid")
            self.stub.blobs[digest_of(data)] = data
            return Answer(status=201)
        if request.method == "PUT":
            self.stub.manifests[session] = (request.headers["content-type"], request.body)
            return Answer(status=201)
        return self.accepted(session, 204) if session in self.sessions else None

    def accepted(self, session: str, status: int) -> Answer:
        last = max(len(self.sessions[session]) - 1, 0)
        return Answer(
            status=status,
            headers={"Location": f"/v2/app/blobs/uploads/{session}", "Range": f"0-{last}"},
        )


def test_a_cut_upload_goes_on_where_the_registry_has_it(
    stub: StubRegistry, images: FakeImages
) -> None:
    Uploads(stub)
    image = make_image([{"a": os.urandom(3_000_000)}])
    cutter = Cutter(int(stub.host.rpartition(":")[2]), itertools.repeat(2_000_000), upwards=True)
    try:
        name = f"{cutter.host}/app:v1"
        keep(images, name, image)
        push(images, name)
    finally:
        cutter.close()
    assert stub.manifests["v1"][1] == image.manifest
    assert stub.blobs[image.layers[0]] == image.blobs[image.layers[0]]
    resumed = [r.headers.get("content-range", "") for r in stub.asked("PATCH", "/uploads/")]
    assert len(resumed) == 2
    assert not resumed[1].startswith("0-")
    assert resumed[1].endswith(f"-{len(image.blobs[image.layers[0]]) - 1}")


def test_a_mount_that_is_refused_or_not_done_becomes_an_upload(
    stub: StubRegistry, images: FakeImages
) -> None:
    def refuse(request: Request) -> Answer | None:
        if "mount" in request.query and request.query["from"] == ["secret"]:
            return error(403, "DENIED", "requested access to the resource is denied")
        return None

    stub.rules.append(refuse)
    uploads = Uploads(stub)
    image = make_image([{"a": os.urandom(1000)}])
    name = f"{stub.host}/app:v1"
    keep(images, name, image)

    async def work(services: Services) -> None:
        digests = [Digest(digest) for digest in image.blobs]
        services.sources.remember(f"{stub.host}/other", digests)
        services.sources.remember(f"{stub.host}/secret", digests)
        async for _ in services.pushes.push(PushRequest(reference=parse_reference(name))):
            pass

    with_services(images, work)
    assert stub.manifests["v1"][1] == image.manifest
    assert len(uploads.sessions) == len(image.blobs)


def test_login(stub: StubRegistry, images: FakeImages) -> None:
    async def work(services: Services) -> None:
        good = Credentials(username="wherry", password="secret", server_address=server.host)
        assert not await services.registries.login(good)
        bad = Credentials(username="wherry", password="bad", server_address=server.host)
        with pytest.raises(EngineError) as caught:
            await services.registries.login(bad)
        assert str(caught.value) == (
            f"login attempt to http://{server.host}/v2/ failed with status: 401 Unauthorized"
        )

    with running_registry(password=True) as server:
        with_services(images, work)


def test_login_at_a_token_server_gives_an_identity_token(
    stub: StubRegistry, images: FakeImages
) -> None:
    TokenServer(stub)

    async def work(services: Services) -> None:
        login = services.registries.login
        good = Credentials(username="u", password="p", server_address=stub.host)
        assert await login(good) == "identity"
        bad = Credentials(username="u", password="bad", server_address=stub.host)
        with pytest.raises(EngineError) as caught:
            await login(bad)
        assert str(caught.value) == (
            f'Get "{stub.url}/v2/": unauthorized: incorrect username or password'
        )

    with_services(images, work)


def test_search(stub: StubRegistry, images: FakeImages) -> None:
    results = [
        {"name": "node", "description": "d", "star_count": 9, "is_official": True},
        {"name": "x/node", "description": "", "star_count": 1, "is_official": False},
    ]
    stub.rules.append(
        lambda request: (
            Answer(body=json.dumps({"results": results}).encode())
            if request.path == "/v1/search"
            else None
        )
    )

    async def work(services: Services) -> None:
        search = services.distribution.search
        assert [r.name for r in await search(f"{stub.host}/node")] == ["node", "x/node"]
        found = await search(f"{stub.host}/node", filters={"stars": ["3"]})
        assert [r.name for r in found] == ["node"]
        found = await search(f"{stub.host}/node", filters={"is-official": ["false"]})
        assert [r.name for r in found] == ["x/node"]
        with pytest.raises(EngineError, match=r"invalid filter 'is-official=\[a b\]'"):
            await search(f"{stub.host}/node", filters={"is-official": ["a", "b"]})
        with pytest.raises(EngineError, match="invalid filter 'x'"):
            await search(f"{stub.host}/node", filters={"x": ["1"]})

    with_services(images, work)
    assert stub.requests[0].query == {"q": ["node"], "n": ["25"]}


def test_an_index_without_platforms_is_taken_when_it_has_one_entry(
    stub: StubRegistry, images: FakeImages
) -> None:
    image = make_image([{"a": b"silent"}])
    stub.add_image("inner", image)
    index = json.loads(make_index([(image, "amd64", "")]))
    del index["manifests"][0]["platform"]
    stub.manifests["v1"] = (OCI_INDEX, json.dumps(index).encode())
    pull(images, f"{stub.host}/app:v1", policy=QUICK)
    assert images.images[f"{stub.host}/app:v1"] == image.config


def test_any_url_is_opened(stub: StubRegistry, images: FakeImages) -> None:
    stub.rules.append(lambda request: Answer(body=b"archive") if request.path == "/a.tar" else None)

    async def work(services: Services) -> None:
        async with services.registries.open_url(f"{stub.host}/a.tar") as (url, content):
            assert url == f"{stub.url}/a.tar"
            assert b"".join([piece async for piece in content]) == b"archive"
        with pytest.raises(EngineError, match="with status 404 Not Found"):
            async with services.registries.open_url(f"{stub.url}/b.tar"):
                pass
        with pytest.raises(EngineError, match='unsupported protocol scheme "ftp"'):
            async with services.registries.open_url("ftp://host/a.tar"):
                pass
        with pytest.raises(EngineError, match='unsupported protocol scheme "file"'):
            async with services.registries.open_url("file:///etc/passwd"):
                pass
        with pytest.raises(EngineError, match='Get "http:": http: no Host in request URL'):
            async with services.registries.open_url(""):
                pass

    with_services(images, work)


MALFORMED = ("http://[", "http://a:b/", "http://a:99999/", "http://" + "a" * 70 + "/")


@pytest.mark.parametrize("url", [*MALFORMED, "http:///x"])
def test_malformed_urls_of_people_are_refused_with_one_sentence(
    images: FakeImages, url: str
) -> None:
    async def work(services: Services) -> None:
        with pytest.raises(EngineError):
            async with services.registries.open_url(url):
                pass
        host = url.removeprefix("http://").partition("/")[0]
        with pytest.raises(EngineError):
            await services.distribution.search(f"{host}:/x", credentials=Credentials())
        with pytest.raises(EngineError):
            await services.registries.login(Credentials(server_address=f"{host}:"))

    with_services(images, work)


@pytest.mark.parametrize("url", MALFORMED)
def test_malformed_urls_of_a_registry_are_refused_with_one_sentence(
    stub: StubRegistry, images: FakeImages, url: str
) -> None:
    stub.rules.append(lambda _: Answer(status=307, headers={"Location": url}))
    with pytest.raises(EngineError):
        pull(images, f"{stub.host}/app:v1")
    challenge = f'Bearer realm="{url}",service="s"'
    stub.rules[0] = lambda _: Answer(status=401, headers={"WWW-Authenticate": challenge})
    with pytest.raises(EngineError):
        pull(images, f"{stub.host}/app:v1")
    stub.rules[0] = lambda _: Answer(
        headers={"Link": f'<{url}>; rel="next"'}, body=b'{"name": "app", "tags": ["v1"]}'
    )
    with pytest.raises(EngineError):
        pull(images, f"{stub.host}/app", all_tags=True)


def test_a_registry_at_a_port_that_cannot_be(images: FakeImages) -> None:
    with pytest.raises(EngineError, match="Port out of range"):
        pull(images, "registry.invalid:99999/app:v1")


def test_a_proxy_of_the_environment_is_used(stub: StubRegistry, images: FakeImages) -> None:
    stub.add_image("v1", make_image([{"a": b"by proxy"}]))
    pull(
        images,
        "registry.invalid/app:v1",
        config=build_registry_config((), ["registry.invalid"]),
        environment={"HTTP_PROXY": stub.url, "HTTPS_PROXY": "http://127.0.0.1:1"},
    )
    assert {request.headers["host"] for request in stub.requests} == {"registry.invalid"}


def test_a_proxy_that_is_down_is_said(images: FakeImages) -> None:
    with pytest.raises(EngineError, match=r"proxyconnect tcp: dial tcp 127\.0\.0\.1:1"):
        pull(
            images,
            "registry.invalid/app:v1",
            environment={"HTTPS_PROXY": "http://127.0.0.1:1"},
        )


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://r/v2/", "https://r/v2/"),
        ("https://u:p@r:5/v2/", "https://r:5/v2/"),
        ("https://s/b?X-Amz-Signature=abc&n=1", "https://s/b?X-Amz-Signature=REDACTED&n=1"),
        ("https://a/token?scope=repository:x:pull&refresh_token=s", None),
    ],
)
def test_messages_show_no_secrets(url: str, shown: str | None) -> None:
    expected = shown or "https://a/token?scope=repository:x:pull&refresh_token=REDACTED"
    assert redact(url) == expected
