"""A real Mosquitto for tests: TLS 1.3 with client certificates and an ACL, or plain on loopback."""

import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field

import trustme

START_DEADLINE_S = 15.0
_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"


def free_port() -> int:
    """Return a TCP port of this machine that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Pki:
    """A city's certificate authority with the broker's certificate and one for each client."""

    folder: pathlib.Path
    ca: trustme.CA = field(default_factory=trustme.CA)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ca.cert_pem.write_to_path(self.ca_path)
        broker = self.ca.issue_cert("localhost", "127.0.0.1")
        broker.private_key_pem.write_to_path(self.folder / "broker.key")
        broker.cert_chain_pems[0].write_to_path(self.folder / "broker.pem")

    @property
    def ca_path(self) -> pathlib.Path:
        return self.folder / "ca.pem"

    def client(self, name: str) -> tuple[pathlib.Path, pathlib.Path]:
        """Return certificate and key files of a client whose common name is ``name``."""
        certificate = self.ca.issue_cert(f"{name}.example", common_name=name)
        cert_path, key_path = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        certificate.cert_chain_pems[0].write_to_path(cert_path)
        certificate.private_key_pem.write_to_path(key_path)
        key_path.chmod(0o600)
        return cert_path, key_path


class Mosquitto:
    """One broker process that can be stopped, killed and started again on the same port."""

    def __init__(
        self,
        folder: pathlib.Path,
        *,
        pki: Pki | None = None,
        acl: str | None = None,
        extra: str = "",
        port: int = 0,
        host: str = "127.0.0.1",
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self.pki = pki
        self._host = host
        self._acl = folder / "acl"
        self._process: subprocess.Popen[bytes] | None = None
        settings = f"listener {self.port} {host}\nuser {pwd.getpwuid(os.getuid()).pw_name}\n"
        settings += "log_type all\nmax_queued_messages 0\n"
        if pki is None:
            settings += "allow_anonymous true\n"
        else:
            settings += (
                f"cafile {pki.ca_path}\ncertfile {pki.folder / 'broker.pem'}\nkeyfile {pki.folder / 'broker.key'}\n"
                "tls_version tlsv1.3\nrequire_certificate true\nuse_identity_as_username true\n"
            )
        if acl is not None:
            settings += f"acl_file {self._acl}\n"
            self.set_acl(acl)
        self._settings = folder / "mosquitto.conf"
        self._settings.write_text(settings + extra)
        self.log = folder / "mosquitto.log"

    @property
    def url(self) -> str:
        """The URL a gateway's settings name."""
        return f"mqtts://localhost:{self.port}" if self.pki else f"mqtt://127.0.0.1:{self.port}"

    @property
    def acl(self) -> str:
        """The ACL as it is written now."""
        return self._acl.read_text()

    def set_acl(self, acl: str) -> None:
        """Write another ACL; `reload` makes a running broker read it."""
        self._acl.write_text(acl)
        self._acl.chmod(0o600)

    def reload(self) -> None:
        """Make the broker read its ACL again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def save(self) -> None:
        """Make it write its sessions to disk (settings: ``persistence true``), and return when that is done."""
        assert self._process is not None
        database = self.folder / "mosquitto.db"
        before = database.stat().st_mtime_ns if database.exists() else 0
        self._process.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + START_DEADLINE_S
        while not (database.exists() and database.stat().st_mtime_ns > before):
            assert time.monotonic() < deadline, "Mosquitto saves nothing"
            time.sleep(0.02)  # polling a foreign process, bounded by the deadline

    def freeze(self) -> None:
        """Make it hang: connections stay, nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def start(self) -> None:
        """Start it and return when it accepts connections."""
        path = shutil.which("mosquitto", path=_PATH)
        assert path, "Mosquitto is missing: sh tools/debian.sh test"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen([path, "-c", str(self._settings)], stdout=log, stderr=log)
        deadline = time.monotonic() + START_DEADLINE_S
        while True:
            assert self._process.poll() is None, f"Mosquitto ended: {self.log.read_text()[-2000:]}"
            try:
                socket.create_connection((self._host, self.port), timeout=1).close()
                return
            except OSError:
                assert time.monotonic() < deadline, "Mosquitto does not listen"
                time.sleep(0.02)  # polling a foreign process, bounded by the deadline

    def stop(self) -> None:
        """End it properly."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait(10)

    def __enter__(self) -> "Mosquitto":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
