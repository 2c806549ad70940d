"""Accounts at registries: config.json, credential helpers, and the header that carries them."""

from __future__ import annotations

import os

from wherry.cli.errors import CommandFailed
from wherry.cli.output import line_error
from wherry.client.document import as_document, decode, encode, mapping_of, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.session import Session
    from wherry.client.document import Document

HUB = "https://index.docker.io/v1/"
_HELPER_ACTIONS = {"get": "getting", "store": "storing", "erase": "erasing"}


def server_key(domain: str) -> str:
    """The key of a registry in config.json: its host, and the old URL for Docker Hub."""
    return HUB if domain in {"docker.io", "index.docker.io", "registry-1.docker.io"} else domain


def registry_auth(session: Session, domain: str) -> str:
    """The X-Registry-Auth header for a registry; empty if there is no account."""
    if not session.has_config:
        return ""
    account = _offer_account(session, server_key(domain))
    return encode_auth(account) if account else ""


def encode_auth(account: Document) -> str:
    """An account as base64url JSON."""
    import binascii

    encoded = str(binascii.b2a_base64(encode(account).encode(), newline=False), "ascii")
    return encoded.replace("+", "-").replace("/", "_")


def find_account(session: Session, key: str) -> Document:
    """username, password or identitytoken, and serveraddress; empty if there is none."""
    document = session.config.document
    helper = text_of(mapping_of(document, "credHelpers"), _host_of(key)) or text_of(
        document, "credsStore"
    )
    if helper:
        return _ask_helper(helper, key)
    accounts = mapping_of(document, "auths")
    for name in accounts:
        if name == key or _host_of(name) == _host_of(key):
            return _decode_account(mapping_of(accounts, name), key)
    return {}


def all_accounts(session: Session) -> Document:
    """Every account by its key: what a build sends along."""
    if not session.has_config:
        return {}
    keys = [*mapping_of(session.config.document, "auths")]
    keys += [*mapping_of(session.config.document, "credHelpers")]
    return {key: account for key in keys if (account := _offer_account(session, key))}


def _offer_account(session: Session, key: str) -> Document:
    """The account for a request that may do without: a helper that fails costs a warning, as in Docker."""
    try:
        return find_account(session, key)
    except CommandFailed as exc:
        line_error(f"WARNING: {exc}")
        return {}


def store_account(session: Session, key: str, account: Document) -> bool:
    """Keeps an account; True if it lies unencrypted in config.json."""
    document = session.config.document
    helper = _helper_for(document, key)
    secret = text_of(account, "identitytoken")
    user = "<token>" if secret else text_of(account, "username")
    accounts = dict(mapping_of(document, "auths"))
    document["auths"] = accounts
    if helper:
        _run_helper(
            helper,
            "store",
            encode(
                {
                    "ServerURL": key,
                    "Username": user,
                    "Secret": secret or text_of(account, "password"),
                }
            ),
        )
        accounts[key] = {}
        session.config.save()
        return False
    import binascii

    plain = f"{text_of(account, 'username')}:{text_of(account, 'password')}"
    entry: Document = {"auth": str(binascii.b2a_base64(plain.encode(), newline=False), "ascii")}
    if secret:
        entry["identitytoken"] = secret
    accounts[key] = entry
    session.config.save()
    return True


def erase_account(session: Session, key: str) -> None:
    """Forgets an account, if there is one."""
    document = session.config.document
    helper = _helper_for(document, key)
    if helper:
        _run_helper(helper, "erase", key)
    accounts = dict(mapping_of(document, "auths"))
    names = [name for name in accounts if name == key or _host_of(name) == _host_of(key)]
    if not names:
        return
    for name in names:
        del accounts[name]
    document["auths"] = accounts
    session.config.save()


def _helper_for(document: Document, key: str) -> str:
    return text_of(mapping_of(document, "credHelpers"), _host_of(key)) or text_of(
        document, "credsStore"
    )


def _host_of(key: str) -> str:
    return key.partition("://")[2].partition("/")[0] if "://" in key else key.partition("/")[0]


def _decode_account(entry: Document, key: str) -> Document:
    import binascii

    account: Document = {"serveraddress": key}
    encoded = text_of(entry, "auth")
    if encoded:
        try:
            plain = str(binascii.a2b_base64(encoded), "utf-8")
        except ValueError as exc:
            raise CommandFailed(f"Invalid auth configuration file: {key}") from exc
        user, _, password = plain.rstrip("\0").partition(":")
        account["username"] = user
        account["password"] = password
    token = text_of(entry, "identitytoken")
    if token:
        account["identitytoken"] = token
    return account if len(account) > 1 else {}


def _ask_helper(helper: str, key: str) -> Document:
    try:
        answer = as_document(decode(_run_helper(helper, "get", key)))
    except CommandFailed as exc:
        if "credentials not found" in str(exc):
            return {}
        raise
    user = text_of(answer, "Username")
    secret = text_of(answer, "Secret")
    if user == "<token>":
        return {"serveraddress": key, "identitytoken": secret}
    return {"serveraddress": key, "username": user, "password": secret}


def _run_helper(helper: str, action: str, text: str) -> str:
    """Runs docker-credential-HELPER with a text on its standard input; gives its output."""
    program = f"docker-credential-{helper}"
    failed = f"error {_HELPER_ACTIONS[action]} credentials - err: "
    input_read, input_write = os.pipe()
    output_read, output_write = os.pipe()
    try:
        pid = os.posix_spawnp(
            program,
            [program, action],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, input_read, 0),
                (os.POSIX_SPAWN_DUP2, output_write, 1),
            ],
        )
    except OSError as exc:
        os.close(input_write)
        os.close(output_read)
        raise CommandFailed(
            f'{failed}exec: "{program}": executable file not found in $PATH, out: ``'
        ) from exc
    finally:
        os.close(input_read)
        os.close(output_write)
    try:
        with open(input_write, "wb") as pipe:
            pipe.write(text.encode())
    except BrokenPipeError:
        pass  # a helper may answer without reading
    with open(output_read, "rb") as pipe:
        output = str(pipe.read(), "utf-8", "replace")
    _, status = os.waitpid(pid, 0)
    if status:
        raise CommandFailed(
            f"{failed}exit status {os.waitstatus_to_exitcode(status)}, out: `{output.strip()}`"
        )
    return output
