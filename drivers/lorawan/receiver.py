"""From PHYPayload to stored readings: which session, is it authentic, is it new, what does it say. Knows no transport.

Order matters here (INTERFACES 10.3): MIC first, then the counter, then decryption and decoding; readings and the
counter go to the ring in one commit; only then does the counter in memory move.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from drivers.lorawan import cayenne, mac
from drivers.lorawan.counter import UplinkCounter, Verdict
from drivers.lorawan.settings import LorawanDeviceSettings
from gateway.driver import (
    Clock,
    Device,
    FrameError,
    FrameReason,
    MemoryValue,
    ReadingSink,
    ReplayError,
    Secret,
)
from gateway.profile import Measurement, Profile
from gateway.reading import Reading

FCNT_JUMP_ODD = 16_384  # more frames lost at once than LoRaWAN 1.0.x allowed (MAX_FCNT_GAP)

PayloadDecoder = Callable[[Profile, int, bytes], Sequence[Measurement]]
_PAYLOAD_DECODERS: Mapping[str, PayloadDecoder] = {cayenne.CAYENNE_LPP.name: cayenne.decode_uplink}


@dataclass(frozen=True, slots=True)
class Reception:
    """One PHYPayload as it was heard.

    Attributes:
        phy_payload: Its octets.
        phenomenon_time_ms: When its readings were true: UTC, ms since 1970.
        received_time_ms: When it reached us, likewise.
        rssi_dbm: Signal strength, None on a wire.
        snr_db: Signal-to-noise ratio, None on a wire.
    """

    phy_payload: bytes
    phenomenon_time_ms: int
    received_time_ms: int
    rssi_dbm: float | None = None
    snr_db: float | None = None


@dataclass(slots=True)
class _Session:
    """One listed device with its keys. The counter is what has been stored, never ahead of it."""

    device: Device
    dev_addr: int
    nwk_skey: Secret
    app_skey: Secret
    checks_counter: bool
    decode: PayloadDecoder
    counter: UplinkCounter
    is_remembered: bool = False  # the ring knows which keys the stored counter belongs to

    @property
    def fingerprint(self) -> bytes:
        """Four octets that tell one set of keys from another; nothing of the key can be computed from them."""
        return mac.aes_cmac(self.nwk_skey.reveal(), b"litfass session" + self.dev_addr.to_bytes(4, "big"))[:4]


@dataclass(frozen=True, slots=True)
class _Uplink:
    """An authentic frame, with the counter as it will be once this frame is stored."""

    session: _Session
    frame: mac.DataFrame
    f_cnt: int
    counter: UplinkCounter


class UplinkReceiver:
    """All sessions behind one driver. Call `recall` before the first `take`, and `take` one frame at a time."""

    def __init__(self, devices: Sequence[Device], clock: Clock) -> None:
        self._clock = clock
        self._device_ids = {device.settings.dev_eui: device.device_id for device in devices}
        self._by_dev_addr: dict[int, list[_Session]] = {}
        for device in devices:
            session = _new_session(device)
            self._by_dev_addr.setdefault(session.dev_addr, []).append(session)

    def recall(self, sink: ReadingSink) -> None:
        """Take up each session's counter where the ring has it; a session with new keys starts afresh."""
        for session in self._sessions():
            name = session.device.device_id
            stored, fingerprint = sink.recall(f"f_cnt_up/{name}"), sink.recall(f"session/{name}")
            assert stored is None or isinstance(stored, int), f"f_cnt_up/{name} is {type(stored).__name__}"
            session.is_remembered = fingerprint == session.fingerprint
            is_other_session = fingerprint is not None and not session.is_remembered
            start: int = session.device.settings.f_cnt_up
            session.counter = UplinkCounter.start(start if is_other_session else max(start, stored or 0))

    async def take(self, reception: Reception, sink: ReadingSink) -> bool:
        """Store the readings of one frame, or count why there are none; False: the disk does not have them yet.

        Raises:
            Exception: What ``sink.append`` raises; then the frame counts as never heard.
        """
        uplink = self._open(reception.phy_payload, sink)
        if uplink is None:
            return True
        session = uplink.session
        fault: FrameError | None = None
        readings: list[Reading] = []
        try:
            readings = _readings(uplink, reception)
        except FrameError as error:
            fault = error
        name = session.device.device_id
        memory: dict[str, MemoryValue] = {f"f_cnt_up/{name}": uplink.counter.next}
        if not session.is_remembered:
            memory[f"session/{name}"] = session.fingerprint
        is_stored = await sink.append(readings, memory=memory)
        missed = uplink.f_cnt - session.counter.next if session.counter.next else 0
        session.counter = uplink.counter
        session.is_remembered = True
        if missed > 0:
            sink.count("missed", missed)
        if missed > FCNT_JUMP_ODD:
            sink.count("f_cnt_jump")
        if fault is not None:
            sink.reject(fault)
        elif not readings:
            sink.count("no_readings")  # MAC commands, an empty payload, or nothing the profile names
        return is_stored

    def _open(self, phy_payload: bytes, sink: ReadingSink) -> _Uplink | None:
        """Return an authentic, new frame; None after anything else was counted or rejected."""
        try:
            if mac.m_type(phy_payload) is mac.MType.JOIN_REQUEST:
                self._note_join(mac.join_request_dev_eui(phy_payload), sink)
                return None
            frame = mac.parse_uplink(phy_payload)
        except FrameError:
            sink.count("not_lorawan")  # whose it is cannot be told, so no more than that is kept of it
            return None
        sessions = self._by_dev_addr.get(frame.dev_addr)
        if sessions is None:
            sink.count("unlisted")
            return None
        for session in sessions:
            nwk_skey = session.nwk_skey.reveal()
            for f_cnt in mac.f_cnt_candidates(session.counter.next, frame.f_cnt_on_air):
                if mac.has_valid_mic(frame, nwk_skey, f_cnt):
                    return self._judge(session, frame, f_cnt, sink)
        sink.reject(_mic_error(sessions, frame))
        return None

    def _judge(self, session: _Session, frame: mac.DataFrame, f_cnt: int, sink: ReadingSink) -> _Uplink | None:
        counter, now_s = session.counter, self._clock.elapsed_s()
        verdict = counter.judge(f_cnt, now_s)
        if verdict is Verdict.DUPLICATE:
            sink.count("duplicate")
            return None
        if verdict in (Verdict.REPLAY, Verdict.RESTART):
            if session.checks_counter:
                sink.reject(_replay_error(session, f_cnt, verdict))
                if verdict is Verdict.RESTART:
                    sink.count("f_cnt_reset")
                    session.counter = counter.note_restart(f_cnt)
                return None
            sink.count("f_cnt_unchecked")
            counter = UplinkCounter.start(f_cnt)
        if verdict is Verdict.LATE:
            sink.count("late")
        return _Uplink(session, frame, f_cnt, counter.accept(f_cnt, now_s))

    def _note_join(self, dev_eui: bytes, sink: ReadingSink) -> None:
        device_id = self._device_ids.get(dev_eui)
        if device_id is None:
            sink.count("unlisted")
            return
        message = (
            "asks to join (OTAA), but is listed with fixed keys (ABP): set the device to ABP, this version joins none"
        )
        sink.reject(FrameError(device_id, FrameReason.TYPE, message))

    def _sessions(self) -> list[_Session]:
        return [session for sessions in self._by_dev_addr.values() for session in sessions]


def _new_session(device: Device) -> _Session:
    settings: LorawanDeviceSettings = device.settings
    # `check` has refused everything else before a driver is built
    assert settings.activation == "abp"
    assert settings.dev_addr is not None
    assert settings.nwk_skey is not None
    assert settings.app_skey is not None
    return _Session(
        device=device,
        dev_addr=int.from_bytes(settings.dev_addr, "big"),
        nwk_skey=settings.nwk_skey,
        app_skey=settings.app_skey,
        checks_counter=settings.f_cnt_check,
        decode=_PAYLOAD_DECODERS[device.profile.decoder],
        counter=UplinkCounter.start(settings.f_cnt_up),
    )


def _readings(uplink: _Uplink, reception: Reception) -> list[Reading]:
    """Return what an authentic frame says.

    Raises:
        FrameError: Its payload is not what the profile's decoder expects.
    """
    session, frame = uplink.session, uplink.frame
    if not frame.f_port or not frame.frm_payload:  # MAC commands (port 0), or nothing but a sign of life
        return []
    name = session.device.device_id
    if frame.f_port > mac.FPORT_APPLICATION_MAX:
        message = f"FPort {frame.f_port}: expected 1 to {mac.FPORT_APPLICATION_MAX}"
        raise FrameError(name, FrameReason.TYPE, message)
    payload = mac.decrypt_uplink(frame, session.nwk_skey.reveal(), session.app_skey.reveal(), uplink.f_cnt)
    try:
        measurements = session.decode(session.device.profile, frame.f_port, payload)
    except FrameError as error:
        message = f"FCnt {uplink.f_cnt}, FPort {frame.f_port}: {error}"
        raise FrameError(name, error.reason, message, frame=payload, offset=error.offset) from error
    return session.device.profile.to_readings(
        name,
        measurements,
        phenomenon_time_ms=reception.phenomenon_time_ms,
        received_time_ms=reception.received_time_ms,
        rssi_dbm=reception.rssi_dbm,
        snr_db=reception.snr_db,
    )


def _mic_error(sessions: Sequence[_Session], frame: mac.DataFrame) -> FrameError:
    """Return the error; it names a device only where one alone has the DevAddr."""
    name = sessions[0].device.device_id if len(sessions) == 1 else ""
    message = (
        f"DevAddr {sessions[0].dev_addr:08x}: MIC wrong under every listed nwk_skey: wrong key, damaged frame,"
        " or a stranger with the same DevAddr"
    )
    return FrameError(name, FrameReason.MIC, message, frame=frame.phy_payload)


def _replay_error(session: _Session, f_cnt: int, verdict: Verdict) -> ReplayError:
    name, last = session.device.device_id, session.counter.next - 1
    message = f"FCnt {f_cnt} is not above {last}, the last one accepted: a replayed frame"
    if verdict is Verdict.RESTART:
        message = (
            f"FCnt {f_cnt} after {last}: the device counts from the start again, or old frames are replayed."
            " Give the device new keys (a new ABP session) in its memory and in the settings; readings wait for that"
        )
    return ReplayError(name, f_cnt, last, message)
