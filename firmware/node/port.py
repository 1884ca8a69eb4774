"""The node's serial port on MicroPython's unix port: a device file. A board brings its own file of this name."""

import termios


class Port:
    """An open serial line."""

    def __init__(self, path: str) -> None:
        """Open the device file, unbuffered, and stop the kernel from changing octets on their way."""
        self._file = open(path, "r+b", 0)  # noqa: SIM115  lives as long as the node
        termios.setraw(self._file.fileno())

    def write(self, octets: bytes) -> None:
        """Write all of ``octets``; OSError if the line is gone."""
        sent = 0
        while sent < len(octets):
            sent += self._file.write(octets[sent:]) or 0
