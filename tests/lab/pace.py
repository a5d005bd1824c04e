"""How slow a lab host is right now: what bounds in seconds are multiplied with.

An emulated host on a machine that does other things besides is many times slower than one at rest. Bounds are
those of a host at rest, on which a login that runs ``true`` takes about a second.
"""

import time

from tests.lab.host import LabHost
from tests.patience import slowness

AT_REST_S = 1.0


def pace(host: LabHost) -> float:
    """1 for a host at rest, more for a slower one, or for one that is watched from a slower machine."""
    times = []
    for _round in range(3):
        started = time.monotonic()
        host.run("true")
        times.append(time.monotonic() - started)
    return max(slowness(), sorted(times)[1] / AT_REST_S)
