"""The server under measurement: uvicorn as ``manage.py serve`` starts it, in a process of its own."""

from __future__ import annotations

import argparse
import os

os.environ["DJANGO_SETTINGS_MODULE"] = "nodeadmin.settings.test"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    import django

    django.setup()
    import uvicorn

    from nodeadmin.asgi import application
    from nodeadmin.server import SOCKETS

    uvicorn.run(
        application,
        host="127.0.0.1",
        port=options.port,
        loop="uvloop",
        lifespan="off",
        log_level="warning",
        **SOCKETS,
    )


if __name__ == "__main__":
    main()
