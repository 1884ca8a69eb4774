"""Checks the node's types with MicroPython's stubs in place of CPython's standard library; part of `make lint`.

The stubs come in two halves: `stdlib/` replaces mypy's typeshed, the boards' modules (`cryptolib`, `micropython`, ...)
lie beside it, among the packages. mypy refuses site-packages as a search path, hence the links.
"""

import pathlib
import subprocess
import sys
import sysconfig
import tempfile

from firmware import NODE_DIR

SETTINGS = """
[mypy]
strict = true
explicit_package_bases = true
mypy_path = {typings}

[mypy-_mpy_shed.*]
ignore_errors = true
"""


def main() -> int:
    """Run mypy over the node's files and return its exit code."""
    with tempfile.TemporaryDirectory() as folder:
        typings = pathlib.Path(folder, "typings")
        typings.mkdir()
        packages = pathlib.Path(sysconfig.get_path("purelib"))
        for stub in (*packages.glob("*.pyi"), *(packages / name for name in ("_mpy_shed", "stdlib", "stubs"))):
            (typings / stub.name).symlink_to(stub)
        settings = pathlib.Path(folder, "mypy.ini")
        settings.write_text(SETTINGS.format(typings=typings))
        return subprocess.run(
            [
                *(sys.executable, "-m", "mypy", "--config-file", settings, "--custom-typeshed-dir", typings),
                *("--cache-dir", pathlib.Path(".mypy_cache", "node").resolve()),
                *sorted(path.name for path in NODE_DIR.glob("*.py")),
            ],
            cwd=NODE_DIR,
            check=False,
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
