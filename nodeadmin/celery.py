"""The Celery application of ``NODEADMIN_ENGINE=celery``.

``manage.py worker`` runs a worker of it, and so does ``celery -A nodeadmin worker``. The broker carries an
operation's id and nothing else; a message that is lost, late, doubled or forged changes nothing, as the row
in the database says what is to be done and who asked for it (nodes/engine/celery_runner.py).
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.concurrency import get_implementation
from celery.concurrency.thread import TaskPool
from celery.signals import setup_logging, worker_init, worker_shutdown, worker_shutting_down

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "nodeadmin.settings.local")

from django.conf import settings

if TYPE_CHECKING:
    from nodes.services import Services

CONNECT_S = 4.0

_services: Services | None = None

app = Celery("nodeadmin")
app.conf.update(
    broker_url=settings.NODEADMIN_BROKER_URL,
    broker_connection_timeout=CONNECT_S,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={
        "global_keyprefix": "nodeadmin-",
        "socket_connect_timeout": CONNECT_S,
        "socket_keepalive": True,
        "health_check_interval": 15,
    },
    imports=["nodes.engine.celery_runner"],
    task_default_queue="operations",
    task_serializer="json",
    accept_content=["json"],
    task_ignore_result=True,
    # Taken off the queue when it has ended, and one at a time: so none waits behind a long one in a busy
    # worker while another worker is idle.
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    # Threads: operations wait for hosts, and connections to hosts survive no fork. With one process a worker
    # there is one set of connections, one thread that renews leases, and nothing of it is lost alone.
    worker_pool="threads",
    worker_concurrency=settings.NODEADMIN_ENGINE_THREADS
    + settings.NODEADMIN_ENGINE_REFRESH_THREADS
    + settings.NODEADMIN_ENGINE_AUTOMATIC_THREADS
    + settings.NODEADMIN_ENGINE_PATIENT_THREADS,
    # Whoever can write to the broker could stop workers through remote control.
    worker_enable_remote_control=False,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
)


@setup_logging.connect
def keep_logging(**_kwargs: Any) -> None:
    """Leave logging as Django has set it up; Celery sets up its own where nobody answers this signal."""


@worker_init.connect
def start(sender: Any, **_kwargs: Any) -> None:
    """Start what runs beside the tasks. Before the broker answers: the sweep does without it."""
    global _services
    if get_implementation(sender.pool_cls) is not TaskPool:
        raise SystemExit("A worker runs threads (--pool threads): connections to hosts survive no fork.")
    from nodes.services import Services

    _services = Services.of_worker()
    _services.start()


@worker_shutting_down.connect
def begin_to_stop(**_kwargs: Any) -> None:
    """Called in the signal's handler, while Celery goes on to wait for its tasks.

    They end, or their operations are handed back for another worker to go on with.
    """
    threading.Thread(target=stop, name="stop").start()


@worker_shutdown.connect
def stop(**_kwargs: Any) -> None:
    if _services is not None:
        _services.stop()
