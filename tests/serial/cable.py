"""A serial cable of two ptys' ends: the gateway opens `path`, the test holds the other end and may pull it."""

import os
import pathlib
import tty
from types import TracebackType
from typing import Self


class Cable:
    """A pty below a stable link, as udev makes one in /dev/serial/by-id."""

    def __init__(self, folder: pathlib.Path, name: str = "usb-FTDI_test-if00") -> None:
        self.path = folder / name
        self.far_fd = -1
        self.plug()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pull()

    @property
    def near_name(self) -> str:
        """The tty the link leads to now."""
        return os.path.realpath(self.path)

    def plug(self) -> None:
        """Put the adapter in: a new pty, and the link leads to it."""
        self.far_fd, near_fd = os.openpty()
        tty.setraw(near_fd)
        os.set_blocking(self.far_fd, False)
        staged = self.path.with_suffix(".new")
        staged.symlink_to(os.ttyname(near_fd))
        staged.rename(self.path)
        self._near_fd = near_fd

    def pull(self) -> None:
        """Pull the adapter: the kernel hangs the tty up, udev takes the link away."""
        if self.far_fd >= 0:
            os.close(self.far_fd)
            os.close(self._near_fd)
            self.far_fd = -1
            self.path.unlink()
