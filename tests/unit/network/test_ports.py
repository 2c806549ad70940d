"""Published ports: grammar and reservations."""

import socket

import pytest

from wherry.model.errors import Conflict, InvalidArgument
from wherry.network.ports import parse_container_port, parse_port_range, reserve_port


@pytest.mark.parametrize(
    ("text", "expected"),
    [("80", (80, "tcp")), ("80/tcp", (80, "tcp")), ("53/UDP", (53, "udp"))],
)
def test_container_ports(text: str, expected: tuple[int, str]) -> None:
    assert parse_container_port(text) == expected


@pytest.mark.parametrize("text", ["", "0", "65536", "x/tcp", "80/icmp", "-1"])
def test_bad_container_ports(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_container_port(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (0, 0)),
        ("0", (0, 0)),
        ("8080", (8080, 8080)),
        ("1-3", (1, 3)),
        ("8080/udp", (8080, 8080)),
        ("/udp", (0, 0)),
    ],
)
def test_port_ranges(text: str, expected: tuple[int, int]) -> None:
    assert parse_port_range(text) == expected


def test_a_port_that_another_program_has_is_refused() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        with pytest.raises(
            Conflict, match=rf"Bind for 127\.0\.0\.1:{port} failed: port is already"
        ):
            reserve_port("127.0.0.1", str(port), "tcp")


def test_a_range_gives_its_first_free_port() -> None:
    port, holder = reserve_port("127.0.0.1", "", "tcp")
    assert holder is not None
    with holder:
        second, other = reserve_port("127.0.0.1", f"{port}-{port + 20}", "tcp")
        assert other is not None
        other.close()
        assert port < second <= port + 20
