"""A process for tests to kill: appends to a ring for ever and says each number once it is appended."""

import sys

from gateway.ring import Ring
from tests.ring.samples import many, stamp


def main() -> None:
    ring = Ring.open(sys.argv[1], size=1 << 20)
    number = ring.head_seq
    while True:
        ring.append(many(number, 7), stamp(), {"count": number + 7})
        number += 7
        sys.stdout.write(f"{number - 1}\n")
        sys.stdout.flush()
        if number % 35 == 0:
            ring.sync()


main()
