"""Every error Litfass can name, sorted by who reacts to it. A bug stays TypeError, ValueError or AssertionError.

LitfassError
├─ ConfigError               file, line, found, expected  -> `litfass check` lists them all, exit 2
├─ RingError                 path
│  ├─ DamagedBlockError      seq_first, seq_last          -> becomes a gap; the rest is delivered
│  ├─ RingFormatError        version_found                -> stop: never write into what we cannot read
│  ├─ RingBusyError          path                         -> another process has the ring open
│  └─ RingSyncError          cause                        -> not stored; kept in memory, tried elsewhere
├─ LinkError                 link, reason                 -> the supervisor reopens port or adapter
├─ DeviceError               device_id                    -> count it, take the next frame
│  ├─ FrameError             frame, offset, reason
│  ├─ ReplayError            f_cnt, f_cnt_last
│  └─ NoReplyError           waited_s
└─ UplinkError               uplink
   ├─ UplinkDownError        retry_after_s                -> keep the batch, back off
   └─ UplinkRefusedError     reason_code                  -> the platform refuses this batch
"""

import enum


class LitfassError(Exception):
    """Anything Litfass can name. The message says what was found and what would be right."""


class ConfigError(LitfassError):
    """One mistake in a settings file.

    Attributes:
        file: Path of the file, as the user wrote it.
        line: 1-based line, or 0 where no line applies.
        found: What stands there.
        expected: What would be right.
    """

    def __init__(self, file: str, line: int, found: str, expected: str) -> None:
        self.file, self.line, self.found, self.expected = file, line, found, expected
        place = f"{file}:{line}" if line else file
        super().__init__(f"{place}: {found}; {expected}")


class ConfigErrors(LitfassError):  # noqa: N818  # plural: it carries several
    """All mistakes of one settings file at once, in line order."""

    def __init__(self, errors: list[ConfigError]) -> None:
        self.errors = sorted(errors, key=lambda error: (error.file, error.line))
        super().__init__("\n".join(str(error) for error in self.errors))


class RingError(LitfassError):
    """The ring file at ``path`` cannot be used as asked."""

    def __init__(self, path: str, message: str) -> None:
        self.path = path
        super().__init__(f"{path}: {message}")


class DamagedBlockError(RingError):
    """A block's checksum is wrong; its records ``seq_first`` to ``seq_last`` (inclusive) are lost."""

    def __init__(self, path: str, seq_first: int, seq_last: int, message: str) -> None:
        self.seq_first, self.seq_last = seq_first, seq_last
        super().__init__(path, message)


class RingFormatError(RingError):
    """The file is a ring of a version this program does not know; it was left untouched."""

    def __init__(self, path: str, version_found: int, message: str) -> None:
        self.version_found = version_found
        super().__init__(path, message)


class RingBusyError(RingError):
    """Another process holds the ring open for writing."""


class RingSyncError(RingError):
    """Writing or syncing failed: what was not yet synced is not stored (FAULTS: EIO, EROFS, ENOSPC)."""

    def __init__(self, path: str, cause: OSError) -> None:
        self.cause = cause
        super().__init__(path, f"write or sync failed: {cause}")


class LinkReason(enum.Enum):
    """Why a link to a bus or radio does not work."""

    ABSENT = "absent"  # no such port, adapter or service
    BUSY = "busy"  # somebody else holds it
    DENIED = "denied"  # permissions
    LOST = "lost"  # it was there and went away (cable pulled, daemon restarted)
    SILENT = "silent"  # open, but nothing arrives where something should


class LinkError(LitfassError):
    """A port, adapter or socket cannot be opened or was lost. The supervisor opens it again later."""

    def __init__(self, link: str, reason: LinkReason, message: str) -> None:
        self.link, self.reason = link, reason
        super().__init__(f"{link}: {message}")


class DeviceError(LitfassError):
    """One device or one frame is at fault; the link is fine. Count it and take the next frame.

    ``device_id`` is empty where the frame names no listed device.
    """

    def __init__(self, device_id: str, message: str) -> None:
        self.device_id = device_id
        super().__init__(f"{device_id}: {message}" if device_id else message)


class FrameReason(enum.Enum):
    """What is wrong with a frame."""

    MALFORMED = "malformed"
    CHECKSUM = "checksum"
    MIC = "mic"
    TYPE = "type"  # well formed, but of a kind this driver does not take
    KEY = "key"  # encrypted with another key, or plain although a key is set


class FrameError(DeviceError):
    """A frame that must not be decoded. ``offset`` is the 0-based byte the fault was seen at, or -1."""

    def __init__(
        self, device_id: str, reason: FrameReason, message: str, *, frame: bytes = b"", offset: int = -1
    ) -> None:
        self.reason, self.frame, self.offset = reason, frame, offset
        super().__init__(device_id, message)


class ReplayError(DeviceError):
    """A counter that is not above the last accepted one: a repeat, a replay or a reset device."""

    def __init__(self, device_id: str, f_cnt: int, f_cnt_last: int, message: str) -> None:
        self.f_cnt, self.f_cnt_last = f_cnt, f_cnt_last
        super().__init__(device_id, message)


class NoReplyError(DeviceError):
    """A polled device did not answer within ``waited_s`` seconds."""

    def __init__(self, device_id: str, waited_s: float) -> None:
        self.waited_s = waited_s
        super().__init__(device_id, f"no reply within {waited_s:g} s")


class UplinkError(LitfassError):
    """A batch could not be delivered over ``uplink``."""

    def __init__(self, uplink: str, message: str) -> None:
        self.uplink = uplink
        super().__init__(f"{uplink}: {message}")


class UplinkDownError(UplinkError):
    """The platform cannot be reached or does not answer. Keep the batch, back off, try again.

    ``retry_after_s`` is what the platform asked for, or None.
    """

    def __init__(self, uplink: str, message: str, retry_after_s: float | None = None) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(uplink, message)


class UplinkRefusedError(UplinkError):
    """The platform answered and refused this very batch with ``reason_code``."""

    def __init__(self, uplink: str, reason_code: int, message: str) -> None:
        self.reason_code = reason_code
        super().__init__(uplink, message)
