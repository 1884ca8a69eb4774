"""The control socket answers questions and nothing else, whoever asks."""

import asyncio
import pathlib
import socket
import stat

import pytest

from gateway.control import ask, serve_control

HANDLERS = {"status": lambda: {"state": "fine"}}


async def raw(path: pathlib.Path, octets: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(octets)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    await writer.wait_closed()
    return answer


async def test_a_question_is_answered(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "control.sock"
    async with serve_control(path, HANDLERS):
        assert await asyncio.to_thread(ask, path, "status") == {"state": "fine"}
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        with pytest.raises(RuntimeError, match="known: status"):
            await asyncio.to_thread(ask, path, "reboot")
    assert not path.exists()
    with pytest.raises(FileNotFoundError):
        ask(path, "status")


@pytest.mark.parametrize(
    "octets",
    [b"\n", b"status\n", b"[]\n", b'{"request": []}\n', b'{"request": 5}\n', b"\xff\xfe\n", b"[" * 4000 + b"\n"],
)
async def test_nonsense_is_answered_politely(tmp_path: pathlib.Path, octets: bytes) -> None:
    async with serve_control(tmp_path / "c", HANDLERS):
        assert b'"error"' in await raw(tmp_path / "c", octets)
        assert b"fine" in await raw(tmp_path / "c", b'{"request": "status"}\n')


async def test_an_endless_line_is_cut_off(tmp_path: pathlib.Path) -> None:
    async with serve_control(tmp_path / "c", HANDLERS):
        assert await raw(tmp_path / "c", b"x" * 100_000) == b""
        assert b"fine" in await raw(tmp_path / "c", b'{"request": "status"}\n')


async def test_a_socket_left_by_a_killed_service_is_replaced(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "c"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    async with serve_control(path, HANDLERS):
        assert await asyncio.to_thread(ask, path, "status") == {"state": "fine"}


async def test_a_path_that_no_socket_can_have_is_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(OSError, match="longer than 107 octets"):
        async with serve_control(tmp_path / ("x" * 120), HANDLERS):
            pass
