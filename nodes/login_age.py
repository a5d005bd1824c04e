"""How old a login is, and for how long nobody has used it: kept in its session, and read by all ways in."""

from __future__ import annotations

import time
from typing import Any

from django.conf import settings

STARTED, USED = "nodeadmin.started", "nodeadmin.used"


def ended(session: Any, now: float | None = None) -> str:
    """Why a login is over: ``idle``, ``age``, or "" where it is not."""
    now = time.time() if now is None else now
    started, used = session.get(STARTED), session.get(USED)
    if isinstance(started, int | float) and now - started > settings.SESSION_COOKIE_AGE:
        return "age"
    idle = settings.NODEADMIN_SESSION_IDLE_S
    if idle and isinstance(used, int | float) and now - used > idle:
        return "idle"
    return ""


def start(session: Any) -> None:
    """Note that a login begins now."""
    session[STARTED] = session[USED] = int(time.time())
