import asyncio
import os
import pathlib
from collections.abc import Iterator

import pytest

from drivers.line import BUFFER_SIZE_MAX, SerialLine
from gateway.driver import LinkError, LinkReason
from tests.serial.cable import Cable

LIMIT_S = 20  # no test comes near it; a hang ends here


@pytest.fixture
def cable(tmp_path: pathlib.Path) -> Iterator[Cable]:
    with Cable(tmp_path) as cable:
        yield cable


def open_fds() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


async def test_octets_pass_both_ways(cable: Cable) -> None:
    async with await SerialLine.open(str(cable.path), baudrate=19200, parity="E", stopbits=2, name="rs485") as line:
        assert line.detail == f"{cable.path} ({cable.near_name.removeprefix('/dev/')}) at 19200 8E2"
        await line.write(bytes(range(256)))
        assert os.read(cable.far_fd, 512) == bytes(range(256))
        os.write(cable.far_fd, bytes(range(256)))
        heard = b""
        async with asyncio.timeout(LIMIT_S):
            while len(heard) < 256:
                heard += await line.read(100)
        assert heard == bytes(range(256))


async def test_reset_input_drops_what_was_not_read(cable: Cable) -> None:
    async with await SerialLine.open(str(cable.path)) as line, asyncio.timeout(LIMIT_S):
        os.write(cable.far_fd, b"old old old")
        assert await line.read(3) == b"old"
        line.reset_input()
        os.write(cable.far_fd, b"new")
        assert await line.read(100) == b"new"


async def test_input_dropped_between_poll_and_read_is_no_hang_up(cable: Cable) -> None:
    async with await SerialLine.open(str(cable.path)) as line, asyncio.timeout(LIMIT_S):
        for _ in range(200):
            os.write(cable.far_fd, b"gone")
            asyncio.get_running_loop().call_soon(line.reset_input)  # runs after the poll, before the reader's callback
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        line.reset_input()
        os.write(cable.far_fd, b"here")
        assert (await line.read(10)).endswith(b"here")


async def test_cancelled_read_loses_nothing(cable: Cable) -> None:
    async with await SerialLine.open(str(cable.path)) as line, asyncio.timeout(LIMIT_S):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await line.read(10)
        os.write(cable.far_fd, b"here")
        assert await line.read(10) == b"here"


async def test_f34_flood_stays_in_a_bounded_buffer(cable: Cable) -> None:
    async with await SerialLine.open(str(cable.path)) as line, asyncio.timeout(LIMIT_S):
        sent, blocked_count = 0, 0
        while len(line._buffer) < BUFFER_SIZE_MAX or blocked_count < 50:  # then until the kernel's buffers are full too
            try:
                sent += os.write(cable.far_fd, b"x" * 1024)
            except BlockingIOError:
                blocked_count += 1
            await asyncio.sleep(0)
        assert len(line._buffer) <= BUFFER_SIZE_MAX
        assert sent > BUFFER_SIZE_MAX
        heard = 0
        while heard < sent:
            heard += len(await line.read(1000))
        assert heard == sent


async def test_stalled_write_waits_and_may_be_cancelled(cable: Cable) -> None:
    async with await SerialLine.open(str(cable.path)) as line, asyncio.timeout(LIMIT_S):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await line.write(bytes(1 << 20))
        writing = asyncio.create_task(line.write(bytes(1 << 20)))
        await asyncio.sleep(0)
        cable.pull()
        with pytest.raises(LinkError) as caught:
            await writing
        assert caught.value.reason is LinkReason.LOST


async def test_f32_pulled_cable_closes_the_descriptor_at_once(cable: Cable) -> None:
    before = open_fds()
    line = await SerialLine.open(str(cable.path), name="rs485")
    reading = asyncio.create_task(line.read(10))
    await asyncio.sleep(0)
    cable.pull()
    with pytest.raises(LinkError, match=r"^rs485: lost") as caught:
        async with asyncio.timeout(LIMIT_S):
            await reading
    assert caught.value.reason is LinkReason.LOST
    assert not line.is_open
    assert open_fds() <= before
    with pytest.raises(LinkError):
        await line.write(b"x")
    with pytest.raises(LinkError):
        line.reset_input()
    line.close()


async def test_f33_found_again_under_another_name(cable: Cable) -> None:
    first = cable.near_name
    line = await SerialLine.open(str(cable.path))
    with Cable(cable.path.parent, "somebody-elses"):
        cable.pull()
        with Cable(cable.path.parent, "takes-the-old-name"):
            cable.plug()
            assert cable.near_name != first
            with pytest.raises(LinkError):
                async with asyncio.timeout(LIMIT_S):
                    await line.read(1)
            async with await SerialLine.open(str(cable.path)) as line, asyncio.timeout(LIMIT_S):
                os.write(cable.far_fd, b"again")
                assert await line.read(10) == b"again"


async def test_f33_link_that_leads_to_another_adapter_ends_the_line(cable: Cable, tmp_path: pathlib.Path) -> None:
    with Cable(tmp_path, "other") as other:
        line = await SerialLine.open(str(cable.path), presence_check_s=0.01)
        cable.path.unlink()
        cable.path.symlink_to(other.near_name)
        with pytest.raises(LinkError, match="leads to another adapter"):
            async with asyncio.timeout(LIMIT_S):
                await line.read(1)
        assert not line.is_open


async def test_absent_port_says_so(tmp_path: pathlib.Path) -> None:
    with pytest.raises(LinkError, match="is not there") as caught:
        await SerialLine.open(str(tmp_path / "nothing"))
    assert caught.value.reason is LinkReason.ABSENT


async def test_what_is_no_serial_port_says_so(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LinkError, match="does not work as a serial port") as caught:
        await SerialLine.open(str(tmp_path / "file"))
    assert caught.value.reason is LinkReason.ABSENT


async def test_port_held_by_another_is_busy(cable: Cable) -> None:
    before = open_fds()
    async with await SerialLine.open(str(cable.path)):
        with pytest.raises(LinkError, match="held by another process") as caught:
            await SerialLine.open(str(cable.path))
        assert caught.value.reason is LinkReason.BUSY
    assert open_fds() <= before


async def test_forbidden_port_names_the_group(cable: Cable, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("serial.serialposix.os.open", refuse)  # tests may run as root, whom nothing refuses
    with pytest.raises(LinkError, match="SupplementaryGroups=") as caught:
        await SerialLine.open(str(cable.path))
    assert caught.value.reason is LinkReason.DENIED


async def test_open_that_is_cancelled_leaks_no_descriptor(cable: Cable) -> None:
    before = open_fds()
    opening = asyncio.create_task(SerialLine.open(str(cable.path)))
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    async with asyncio.timeout(LIMIT_S):
        while True:  # free again as soon as the thread is done
            try:
                line = await SerialLine.open(str(cable.path))
                break
            except LinkError:
                await asyncio.sleep(0)
    line.close()
    assert open_fds() <= before


@pytest.mark.slow
async def test_thousand_pulls_leak_nothing(cable: Cable) -> None:
    before = open_fds()
    async with asyncio.timeout(100):
        for _ in range(1000):
            line = await SerialLine.open(str(cable.path))
            cable.pull()
            with pytest.raises(LinkError):
                await line.read(1)
            cable.plug()
    assert len(open_fds()) == len(before)
