"""The server: uvicorn with connections that end in time. ``python -m nodeadmin.server --port 8000``.

What ``manage.py serve`` runs once everything is set up. It listens on loopback alone; a proxy ends TLS.
"""

from __future__ import annotations

import argparse
from typing import Any

import uvicorn

STOP_WAIT_S = 10
MOST_MESSAGE_BYTES = 256 * 1024
SOCKETS: dict[str, Any] = {
    "ws": "nodeadmin.connections:BoundedSocket",
    "ws_max_size": MOST_MESSAGE_BYTES,
    # Deflating every viewer's copy of a log costs more than all the rest of it together.
    "ws_per_message_deflate": False,
    "ws_ping_interval": 20.0,
    # A client that reads slowly answers only after what lies before the ping.
    "ws_ping_timeout": 120.0,
}


def run(port: int, *, workers: int = 1) -> None:
    """Serve until the process is told to end."""
    uvicorn.run(
        "nodeadmin.asgi:application",
        host="127.0.0.1",
        port=port,
        workers=workers,
        loop="uvloop",
        http="nodeadmin.connections:BoundedHttp",
        **SOCKETS,
        lifespan="on",
        log_config=None,
        server_header=False,
        # nodeadmin/proxies.py reads them: two that judge would contradict each other.
        proxy_headers=False,
        timeout_graceful_shutdown=STOP_WAIT_S,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m nodeadmin.server")
    parser.add_argument("--port", type=int, default=8000)
    run(parser.parse_args().port)


if __name__ == "__main__":
    main()
