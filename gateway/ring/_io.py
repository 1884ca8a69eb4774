"""The seam between the ring and its medium: `BlockIO`, and the one that is a file. Nothing here knows the format.

A plain ``pwrite`` and ``fdatasync`` on a file that was written full once. No mmap: on a full or failing disk a mapped
page ends the process by SIGBUS, a write returns an error.
"""

import contextlib
import errno
import fcntl
import os
import pathlib
from typing import Protocol

from gateway.errors import RingBusyError, RingError

CREATE_CHUNK_SIZE = 1 << 20  # zeros written at once when a ring is made
NEW_SUFFIX = ".new"  # a ring in the making; becomes the ring by rename, so a half-made one is never taken for one


class BlockIO(Protocol):
    """A medium of fixed size. Every method may raise OSError."""

    def pread(self, size: int, offset: int) -> bytes:
        """Return up to ``size`` octets from ``offset``."""
        ...

    def pwrite(self, octets: bytes, offset: int) -> int:
        """Write at ``offset`` and return how many octets were taken, which may be fewer than given."""
        ...

    def sync(self) -> None:
        """Return once all that was written is on the medium."""
        ...

    def size(self) -> int:
        """Return the size of the medium in octets."""
        ...

    def close(self) -> None:
        """Let go of the medium; nothing else may be called afterwards."""
        ...


def write_all(io: BlockIO, octets: bytes, offset: int) -> None:
    """Write all octets, however few the medium takes at a time.

    Raises:
        OSError: The medium failed or takes nothing any more.
    """
    taken = io.pwrite(octets, offset)
    while taken < len(octets):
        more = io.pwrite(octets[taken:], offset + taken)
        if more <= 0:
            raise OSError(errno.EIO, "the medium takes no more octets")
        taken += more


class FileIO:
    """A ring file, locked against a second writer for as long as it is open."""

    def __init__(self, path: pathlib.Path, *, read_only: bool = False) -> None:
        """Open an existing file.

        Raises:
            RingBusyError: Another process has it open for writing.
            FileNotFoundError: There is none.
            OSError: It cannot be opened.
        """
        self._fd = os.open(path, (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC)
        if not read_only:
            try:
                lock(self._fd, path)
            except RingBusyError:
                os.close(self._fd)
                raise

    def pread(self, size: int, offset: int) -> bytes:
        """Return up to ``size`` octets from ``offset``."""
        return os.pread(self._fd, size, offset)

    def pwrite(self, octets: bytes, offset: int) -> int:
        """Write at ``offset``; on return a SIGKILL can no longer take it."""
        return os.pwrite(self._fd, octets, offset)

    def sync(self) -> None:
        """Return once all that was written survives a power cut."""
        os.fdatasync(self._fd)

    def size(self) -> int:
        """Return the size of the file in octets."""
        return os.fstat(self._fd).st_size

    def close(self) -> None:
        """Close the file, which also unlocks it."""
        os.close(self._fd)


def lock(fd: int, path: pathlib.Path) -> None:
    """Lock the open file against a second writer.

    Raises:
        RingBusyError: Another process has it.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RingBusyError(str(path), "another process has this ring open; stop it or use another path") from None


def create_file(path: pathlib.Path, size: int, start: list[tuple[int, bytes]]) -> None:
    """Make a file of ``size`` zeros with ``start`` (offset, octets) written over them; it appears whole or not at all.

    Raises:
        RingError: No space, no permission, or another fault; nothing is left behind.
        RingBusyError: Another process is making it.
    """
    new = path.with_name(path.name + NEW_SUFFIX)
    try:
        fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise RingError(str(path), f"cannot be made: {error.strerror or error}") from error
    try:
        lock(fd, path)
        try:
            _fill(fd, size, start)
            os.rename(new, path)
            sync_folder(path.parent)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(new)
            reason = "no space left on the disk" if error.errno == errno.ENOSPC else (error.strerror or str(error))
            raise RingError(str(path), f"cannot be made with {size} octets: {reason}") from error
    finally:
        os.close(fd)


def _fill(fd: int, size: int, start: list[tuple[int, bytes]]) -> None:
    os.ftruncate(fd, 0)
    zeros = bytes(CREATE_CHUNK_SIZE)
    offset = 0
    while offset < size:
        offset += os.pwrite(fd, zeros[: size - offset], offset)
    for place, octets in start:
        os.pwrite(fd, octets, place)
    os.fsync(fd)


def sync_folder(folder: pathlib.Path) -> None:
    """Make a rename inside the folder survive a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
