"""An enemy host at every door that people have: calls of the API, operations, pages, sockets and files, the
monitor. Each ends in time with a bounded result or an error that says what is wrong, and hurts nobody else.

The readers behind the doors are tried one by one in the files beside this one, with every kind of attack.
Here each door meets the few kinds that take another way through it, several enemies at once; the comment at
each list says which way that is. What all of it costs is looked at while it lasts: threads, what is held for
each host, the memory of the process; and a neighbour, whose host is honest, is asked all the while.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self, TypeVar

import pytest
from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.db import connections
from django.test import AsyncClient, Client

from nodes import access
from nodes.hosts.host_budget import DEFAULT, budgets
from nodes.inventory.registry import SECTIONS
from nodes.models import Event, HostFlood, Node, Operation, OperationStatus, Snapshot
from nodes.monitor import gate, watch
from nodes.monitor.loop import Monitor
from nodes.operations import reaching
from nodes.web import log_download
from tests.api.conftest import Api
from tests.api.test_logs import node_of
from tests.engine.running import in_background
from tests.factories import make_credential, make_node
from tests.hostile.host import BEATS, EndlessGreeting, EnemyHost
from tests.hostile.libvirt_socket import LyingLibvirt
from tests.hostile.test_host import in_time
from tests.hostile.test_libvirt import Held
from tests.journals import AVAILABLE as HAS_JOURNALS
from tests.journals import JournalHost, entry
from tests.libvirtd import AVAILABLE as HAS_LIBVIRT
from tests.monitor.test_monitor import FAST, until
from tests.patience import slowness
from tests.realtime.sockets import OWN, Socket, cookie_of, opened
from tests.sshd import ME

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(
        not (HAS_JOURNALS and HAS_LIBVIRT), reason="needs root, libvirtd, unshare and systemd-journal-remote"
    ),
]
T = TypeVar("T")
HOST_S = 3.0
"""For one call that reaches out, in place of 15 s."""
PROBE_S = 3.0
"""For one inventory, in place of 60 s."""
MOST_ENEMIES = 9
THREADS_EACH = 20
"""Of one host, at the worst: its connections, what reads from them, and beside the probe libvirt's part with
six calls at once. A neighbour and whoever asks have as many."""
MOST_HELD = 256 << 20
"""Of this process and all doors of a test together; without its bounds a single enemy takes gigabytes."""
ERRORS = {"timeout", "host_unreachable", "host_budget_exceeded", "journal_unavailable", "cursor_gone"}
"""What a journal that lies is told to be."""
KEPT = ("libvirt events", "journal: ", "asyncio", "ThreadPoolExecutor")
"""Threads of the process, as many as it has: the first of libvirt's library, the others of pools."""
UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
TAG = re.compile(r"<textarea\b.*?</textarea>|<script\b.*?</script>|<[^>]*>", re.DOTALL)

SEEN = re.compile(r'\s(?:title|aria-label|alt|placeholder|data-copy)="([^"]*)"')
"""Of a tag, what a person reads or copies."""


@pytest.fixture(scope="module")
def libvirt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LyingLibvirt]:
    """A libvirt that answers, with odd names. Without one, adding an enemy ends before its inventory."""
    with LyingLibvirt(tmp_path_factory.mktemp("libvirt")) as host:
        host.lie("odd names")
        yield host


@pytest.fixture(scope="module")
def liar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LyingLibvirt]:
    """An honest host, but for its libvirt, which answers whatever it is asked with a long error."""
    with LyingLibvirt(tmp_path_factory.mktemp("liar")) as host:
        host.lie("error without end")
        yield host


@pytest.fixture(scope="module")
def enemies(libvirt: LyingLibvirt, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[EnemyHost]]:
    """Hosts that a test makes enemies of the kinds that it tries."""
    folder = tmp_path_factory.mktemp("enemies")
    with contextlib.ExitStack() as running, ThreadPoolExecutor(4) as starting:
        made = starting.map(
            lambda number: EnemyHost(folder / str(number), prefix=libvirt.inside).__enter__(),
            range(MOST_ENEMIES),
        )
        hosts = list(made)
        for host in hosts:
            running.callback(host.__exit__, None, None, None)
        yield hosts


@pytest.fixture(scope="module")
def neighbour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JournalHost]:
    made = JournalHost(tmp_path_factory.mktemp("neighbour"))
    made.write(entry(number, f"line {number}") for number in range(50))
    with made:
        yield made


@pytest.fixture(autouse=True)
def short_limits(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.NODEADMIN_HOST_TIMEOUT_S = HOST_S
    settings.NODEADMIN_PROBE_TIMEOUT_S = PROBE_S
    settings.NODEADMIN_WAITS_PER_USER = settings.NODEADMIN_WAITS = 100
    monkeypatch.setattr(reaching, "RIGHTS_S", HOST_S)
    monkeypatch.setattr(log_download, "PAGE_S", HOST_S)
    monkeypatch.setattr(log_download, "MAX_S", 2.0)
    monkeypatch.setattr(log_download, "AT_ONCE", 100)


@pytest.fixture(autouse=True)
def no_surprise(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing that a host does is an error that nobody expected: none is logged with a traceback."""
    yield
    surprises = [record for record in caplog.get_records("call") if record.exc_info]
    assert not [(record.name, record.getMessage()[:2000]) for record in surprises]


@dataclass
class Attack:
    """What happens to everybody else while it lasts, and what it costs this process. A context."""

    honest: Api
    keys: list[str]
    """What names the enemies among budgets."""
    threads: list[str] = field(default_factory=list)
    """The names of those that there were at once, at the most."""
    held: dict[str, int] = field(default_factory=dict)
    """Of each resource of a budget, the most that one host had."""
    answers: list[tuple[int, int, float]] = field(default_factory=list)
    """Of the neighbour: status, entries, seconds."""

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._before = set(threading.enumerate())
        self._memory = Held()
        self._helpers = [threading.Thread(target=work, daemon=True) for work in (self._watch, self._ask)]
        for helper in self._helpers:
            helper.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        self._over.set()
        for helper in self._helpers:
            helper.join()
        if kind is not None:
            return
        assert len(self.threads) <= THREADS_EACH * (len(self.keys) + 1), Counter(self.threads)
        assert self.held["held_bytes"] <= DEFAULT.held_bytes
        assert self.held["sessions"] <= DEFAULT.sessions
        assert self._memory.bytes() < MOST_HELD, self._memory.bytes() >> 20
        assert {status for status, _entries, _took in self.answers} == {200}, self.answers
        assert in_time(max(took for *_answer, took in self.answers), HOST_S + 1), self.answers
        # Where this machine is slow, its own tools may have no time to read what was written.
        whole = [entries for _status, entries, _took in self.answers].count(5)
        assert whole == len(self.answers) or (whole and slowness() > 1.5), self.answers

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            more = sorted(thread.name for thread in set(threading.enumerate()) - self._before)
            self.threads = max(self.threads, more, key=len)
            for resource in ("held_bytes", "sessions", "threads"):
                most = max((budgets.of(key).taken(resource) for key in self.keys), default=0)
                self.held[resource] = max(self.held.get(resource, 0), most)

    def _ask(self) -> None:
        try:
            while True:
                began = time.monotonic()
                status, body = self.honest("describe-node-logs", {"node": "neighbour", "limit": 5})
                self.answers.append((status, len(body.get("entries", ())), time.monotonic() - began))
                if self._over.wait(0.3):
                    return
        finally:
            connections.close_all()


@contextlib.asynccontextmanager
async def attacked(honest: Api, keys: list[str]) -> AsyncIterator[Attack]:
    """The same beside a loop, which is not held up by it."""
    attack = await sync_to_async(Attack(honest, keys).__enter__)()
    try:
        yield attack
    except BaseException as error:
        await sync_to_async(attack.__exit__)(type(error))
        raise
    await sync_to_async(attack.__exit__)(None)


@dataclass
class Answer:
    """What a door gave, and after how long."""

    status: int
    raw: bytes
    took_s: float

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


class Doors:
    """One person's calls and pages. Whatever comes through is looked at: in time, expected, nothing raw."""

    def __init__(self, user: Any) -> None:
        self.user = user
        self.api = Api(user)
        self.browser = Client(raise_request_exception=False)
        self.browser.force_login(user)

    def call(self, endpoint: str, body: Any) -> Answer:
        begin = time.monotonic()
        response = self.api.raw(endpoint, body)
        found = Answer(response.status_code, response.content, time.monotonic() - begin)
        assert found.status in (200, 202, 410, 502, 504), (endpoint, found.status, found.raw[:2000])
        assert in_time(found.took_s, 2 * HOST_S), (endpoint, found.took_s)
        assert_json_is_visible(found.raw)
        if found.status >= 400:
            assert found.body["code"] in ERRORS, found.body
            assert 0 < len(found.body["detail"]) < 1500
        return found

    def page(self, path: str) -> str:
        response = self.browser.get(path)
        assert response.status_code == 200, (path, response.status_code)
        text = response.content.decode()
        assert_page_is_visible(text)
        return text


def assert_json_is_visible(raw: bytes) -> None:
    """One line that decodes, in which what cannot be seen is written out."""
    found = UNSEEN.search(raw.decode())
    assert found is None, (found, raw[:500])


def assert_page_is_visible(page: str) -> None:
    shown = TAG.sub(lambda tag: " ".join(SEEN.findall(tag[0])), page)
    found = UNSEEN.search(shown.replace("\r", "").replace("\ufeff", ""))
    assert found is None, (found, shown[found.start() - 100 : found.end() + 100])
    assert "<script>alert" not in page
    assert "Traceback" not in page


def side_by_side(work: Iterable[Callable[[], Any]]) -> list[Any]:
    """What each of them gives or raises, all at once."""

    def one(task: Callable[[], Any]) -> Any:
        try:
            return task()
        finally:
            connections.close_all()

    tasks = list(work)
    with ThreadPoolExecutor(len(tasks)) as pool:
        return list(pool.map(one, tasks))


def assert_none_are_left(before: set[threading.Thread]) -> None:
    """Once the connections that are kept for the next one who asks are closed, no thread is with a host."""
    access.close_pool()
    names: set[str] = set()

    def ended() -> bool:
        names.clear()
        names.update(thread.name for thread in set(threading.enumerate()) - before)
        return all(name.startswith(KEPT) for name in names)

    try:
        until(ended, 15)
    except AssertionError:
        raise AssertionError(names) from None


@pytest.fixture
def doors(administrator: Any, neighbour: JournalHost) -> Doors:
    administrator.is_superuser = True
    administrator.save()
    node_of(neighbour, "neighbour")
    return Doors(administrator)


def known(enemy: EnemyHost, number: int) -> Node:
    """The enemy as a node that was added when it was honest."""
    node = make_node(
        f"enemy-{number}",
        uri=f"qemu+ssh://{ME}@127.0.0.1:{enemy.sshd.port}/system",
        host_key=enemy.sshd.host_key().to_text(),
        host_key_fingerprint=enemy.sshd.host_key().fingerprint,
    )
    make_credential(node, "ssh_key", private_key=enemy.sshd.user_key.read_text())
    return node


def keys_of(nodes: Iterable[Node]) -> list[str]:
    return [str(node.uuid) for node in nodes]


def addresses(enemies: list[EnemyHost]) -> list[str]:
    return [f"127.0.0.1:{enemy.sshd.port}" for enemy in enemies]


def run_all(operations: int, limit_s: float) -> list[Operation]:
    """Let the engine run them, all at once; gives them as they ended."""
    begin = time.monotonic()
    ended = [one for running in [in_background() for _ in range(operations)] for one in running.result(120)]
    assert in_time(time.monotonic() - begin, 2 * limit_s), time.monotonic() - begin
    assert len(ended) == operations
    return ended


# -- operations ---------------------------------------------------------------------------------------

# add-node meets a host at a step each: the greeting, what the user may do (any script), libvirt (an error of
# megabytes), the inventory (the probe alone). The readers of these are few: one that waits for a line, one
# with a bound on bytes and one with a clock. "odd names" ends well, with the enemy's words in the node.
ADDED = {
    "reach": None,
    "rights": ("garbage", True),
    "rights again": ("one byte a second", True),
    "libvirt": None,
    "inventory": ("endless", False),
    "join": ("odd names", False),
}


def test_adding_an_enemy_ends_at_the_step_that_it_attacks(
    enemies: list[EnemyHost], liar: LyingLibvirt, doors: Doors
) -> None:
    wanted = {}
    with EndlessGreeting() as greeting, Attack(doors.api, addresses(enemies[: len(ADDED)])):
        for number, (step, attack) in enumerate(ADDED.items()):
            enemy = enemies[number]
            if attack is not None:
                enemy.probe(attack[0], whatever_is_asked=attack[1])
            sshd = liar.sshd if step == "libvirt" else enemy.sshd
            port = greeting.port if step == "reach" else sshd.port
            key = sshd.user_key.read_text()
            answer = doors.call(
                "add-node",
                {
                    "name": f"enemy-{number}",
                    "uri": f"qemu+ssh://{ME}@127.0.0.1:{port}/system",
                    "host_key_fingerprint": sshd.host_key().fingerprint,
                    "credential": {"kind": "ssh_key", "private_key": key},
                },
            )
            wanted[answer.body["id"]] = step
        for operation in run_all(len(wanted), HOST_S + PROBE_S + 2):
            step = wanted[str(operation.pk)].removesuffix(" again")
            steps = doors.call("describe-operation", {"operation": str(operation.pk)}).body["steps"]
            assert steps_reached(steps) == step, (step, steps)
            doors.call("list-operation-log", {"operation": str(operation.pk)})
            page = doors.page(f"/operations/{operation.pk}/")
            if step == "join":
                assert operation.status == OperationStatus.SUCCEEDED, operation.error
                assert Node.objects.get(name=operation.node_name).snapshot is not None
            else:
                assert operation.status == OperationStatus.FAILED
                assert (operation.error or {})["code"] != "internal_error"
                assert not Node.objects.filter(name=operation.node_name).exists()
                assert len(page) < 200_000
        doors.page("/operations/")
        doors.page("/nodes/")


def steps_reached(steps: list[dict[str, Any]]) -> str:
    """The code of the last step that was begun."""
    return str([step["code"] for step in steps if step["status"] in ("succeeded", "failed")][-1])


# Of a node that is known, an inventory is read, parsed, compared with the one before and stored. "endless"
# ends at the bound on bytes and has no head, "frames without end" at the clock with one, and counts as an
# inventory; "half a million frames" and "gigantic" cost what parses them; "odd names" is stored whole.
REFRESHED = ("endless", "never ends", "frames without end", "half a million frames", "gigantic", "odd names")


def test_refreshing_an_enemy_ends_and_its_pages_can_be_seen(enemies: list[EnemyHost], doors: Doors) -> None:
    kinds = dict(enumerate(REFRESHED))
    for number, kind in kinds.items():
        enemies[number].probe(kind)
    nodes = [known(enemies[number], number) for number in kinds]
    before = set(threading.enumerate())
    with Attack(doors.api, keys_of(nodes)):
        for node in nodes:
            doors.call("refresh-node", {"node": node.name})
        ended = {one.node_name: one for one in run_all(len(nodes), HOST_S + PROBE_S + 2)}
    for node, kind in zip(nodes, REFRESHED, strict=True):
        operation = ended[node.name]
        doors.call("describe-operation", {"operation": str(operation.pk)})
        doors.page(f"/operations/{operation.pk}/")
        assert Snapshot.objects.filter(node=node).exists() is (kind not in ("endless", "never ends"))
        if operation.status == OperationStatus.FAILED:
            assert (operation.error or {})["code"] in ("timeout", "probe_failed"), operation.error
    # Of the six two have the same to show: nothing, or problems alone.
    side_by_side(partial(look_at, doors, node) for node in (nodes[0], nodes[4], nodes[5]))
    assert_none_are_left(before)
    slugs = ("summary", "pci", "usb", "net", "disks", "vms")
    shown = [doors.page(f"/nodes/enemy-5/{slug}/") for slug in slugs]
    assert all("\\u202egnp" in page for page in shown), [page.count("\\u202egnp") for page in shown]


def look_at(doors: Doors, node: Node) -> None:
    """Whatever shows what is stored of it."""
    for section in SECTIONS:
        doors.call(f"describe-node-{section.slug}", {"node": node.name})
        doors.page(f"/nodes/{node.name}/{section.slug}/")
    for endpoint in ("describe-node", "list-events", "list-inventory-changes"):
        doors.call(endpoint, {"node": node.name})
    doors.call("search-devices", {"text": "gnp"})
    for page in ("", "logs/", "events/", "changes/", "operations/", "disk-history/", "settings/"):
        doors.page(f"/nodes/{node.name}/{page}")
    doors.page("/devices/?text=gnp")
    doors.page("/")


# -- logs ---------------------------------------------------------------------------------------------

# Of the names that list-log-sources reads, only how much and how fast matters, and what they are.
LISTED = ("names without end", "one byte a second", "garbage", "never ends", "odd names")
# An entry has a name, a size or neither, a cursor that fits or does not, and there may be any number of them;
# "never ends", which comes after "garbage" at the same host, is the one whose clock is never looked at.
READ = (
    "garbage",
    "one byte a second",
    "the same entry for ever",
    "no cursor",
    "a field without end",
    "a size of 8 EiB",
    "names without end",
    "new entries for ever",
    "odd names",
)


def test_the_logs_of_enemies_end_in_time_and_can_be_seen(enemies: list[EnemyHost], doors: Doors) -> None:
    nodes = {}
    for number, kind in enumerate(READ):
        enemies[number].journal(kind)
        nodes[kind] = known(enemies[number], number)
    nodes["never ends"] = nodes["garbage"]
    with Attack(doors.api, keys_of(nodes.values())) as attack:
        for lists, reads in ((LISTED[:3], READ[:5]), (LISTED[3:], (*READ[5:], "never ends"))):
            if "never ends" in lists:
                enemies[READ.index("garbage")].journal("never ends")
            tasks = [partial(listed, doors, kind, nodes[kind]) for kind in lists]
            tasks += [partial(read, doors, kind, nodes[kind]) for kind in reads]
            side_by_side(tasks)
    assert attack.held["threads"] <= 2


def listed(doors: Doors, kind: str, node: Node) -> None:
    found = doors.call("list-log-sources", {"node": node.name})
    if found.status == 200:
        names = found.body["identifiers"] + found.body["units"]
        assert all(name.isprintable() for name in names)
        assert kind != "odd names" or set(names) == {"well", "well.service"}
        assert len(found.body["identifiers"]) <= 2000
        assert len(found.body["units"]) <= 2000


def read(doors: Doors, kind: str, node: Node) -> None:
    found = doors.call("describe-node-logs", {"node": node.name, "limit": 100})
    if found.status != 200:
        return
    entries = found.body["entries"]
    assert len(entries) <= 100
    if kind == "odd names":
        assert "\u202egnp" in entries[0]["message"]
    if entries:
        further = {"node": node.name, "limit": 100, "cursor": found.body["cursor"]}
        doors.call("describe-node-logs", further)


async def saved(client: Any, kind: str, node: Node, form: str) -> None:
    begin = time.monotonic()
    response = await client.get(f"/nodes/{node.name}/logs/download/", {"format": form})
    if response.status_code != 200:
        assert response.status_code in (502, 504), (kind, response.status_code)
        assert_page_is_visible(response.content.decode())
        return
    raw = b"".join([piece async for piece in response])
    assert in_time(time.monotonic() - begin, 2 * (HOST_S + log_download.MAX_S)), (kind, form)
    lines = raw.decode().removesuffix("\n").split("\n")
    assert all(line.replace("\t", "").isprintable() for line in lines)
    assert len(lines) < 13_000
    if form == "json":
        end = json.loads(lines[-1])
        assert (end["type"], end["complete"]) == ("end", kind == "odd names")
    else:
        assert lines[0].startswith("-- enemy-")
        assert lines[-1].startswith("-- ")
    if kind == "odd names":
        assert raw.count(b"\\u202egnp") >= 2


# A socket first reads what there was, then follows. "one byte a second" never comes to the first, "no cursor"
# and "names without end" fail in it, the two floods fill what follows; "odd names" are shown.
FOLLOWED = ("one byte a second", "no cursor", "names without end", "the same entry for ever",
            "new entries for ever", "odd names")  # fmt: skip


# A file is read page after page: what matters is whether another page may follow, and what is in it.
SAVED = ("the same entry for ever", "new entries for ever", "one byte a second", "odd names")


async def test_live_logs_and_files_of_enemies_end_in_time_and_say_what_is_missing(
    enemies: list[EnemyHost], doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_download, "MAX_ENTRIES", 12_000)
    nodes = {}
    for number, kind in enumerate(FOLLOWED):
        enemies[number].journal(kind)
        nodes[kind] = await sync_to_async(known)(enemies[number], number)
    headers = [*OWN, await sync_to_async(cookie_of)(doors.user)]
    client: Any = AsyncClient(raise_request_exception=False)
    await client.aforce_login(doors.user)
    before = set(threading.enumerate())
    views = [alone(watched(kind, node, headers)) for kind, node in nodes.items()]
    files = [alone(saved(client, kind, nodes[kind], form)) for kind in SAVED for form in ("text", "json")]
    async with attacked(doors.api, keys_of(nodes.values())):
        seen, _files = await asyncio.gather(asyncio.gather(*views), asyncio.gather(*files))
    found = dict(zip(nodes, seen, strict=True))
    assert "\u202egnp" in json.dumps(found["odd names"], ensure_ascii=False)
    assert found["new entries for ever"][0]["state"] == "live"
    await sync_to_async(assert_none_are_left)(before)


async def alone(work: Coroutine[Any, Any, T]) -> T:
    """With a thread of its own for what is not asynchronous, as the server gives one to each request."""
    async with ThreadSensitiveContext():
        try:
            return await work
        finally:
            await sync_to_async(connections.close_all)()


async def watched(kind: str, node: Node, headers: Any) -> list[dict[str, Any]]:
    """What a viewer gets within some seconds, and that the socket is closed at once."""
    found = []
    async with opened(f"/ws/nodes/{node.name}/logs/", headers) as socket:
        await socket.send('{"type": "subscribe", "backlog": 50}')
        first = await event(socket, 2 * HOST_S + 3)
        assert first is not None, kind
        found.append(first)
        if first["type"] == "error":
            assert first["code"] in ERRORS, first
        end = time.monotonic() + 1.5
        while time.monotonic() < end and (more := await event(socket, end - time.monotonic())) is not None:
            found.append(more)
        begin = time.monotonic()
    assert in_time(time.monotonic() - begin, 2), kind
    return found


async def event(socket: Socket, within_s: float) -> dict[str, Any] | None:
    """The next message, None where there is none in time or the socket was closed."""
    deadline = time.monotonic() + max(0.05, within_s)
    while await socket.is_quiet(0.05):
        if time.monotonic() > deadline and not in_time(time.monotonic() - deadline, within_s):
            return None
        if time.monotonic() > deadline:
            return None
    got = await socket.event()
    if got["type"] != "websocket.send":
        assert got == {"type": "websocket.close", "code": 4500}
        return None
    assert_json_is_visible(got["text"].encode())
    assert len(got["text"]) < 4 << 20
    return socket.read(got)


# -- the monitor --------------------------------------------------------------------------------------


def test_enemies_heartbeats_are_few_events_and_the_neighbour_beats_on(
    enemies: list[EnemyHost], doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every kind: the monitor has one loop for all hosts, and each kind is another way to keep it busy."""
    nodes = []
    for number, kind in enumerate(BEATS):
        enemies[number].beats(kind)
        nodes.append(known(enemies[number], number))
    beats = Node.objects.get(name="neighbour")
    before = set(threading.enumerate())
    monitor = Monitor(FAST)
    monkeypatch.setattr(gate, "TOLD_EVERY_S", 0.5)
    monkeypatch.setattr(watch, "TOLD_EVERY_S", 0.5)
    with Attack(doors.api, keys_of(nodes)):
        monitor.start()
        try:
            until(lambda: heartbeats_of(beats) >= 3, 60)
            so_far, begin = monitor.beats, time.monotonic()
            time.sleep(2)
            until(lambda: HostFlood.objects.filter(node=nodes[0]).exists(), 60)
            # Two of the hosts say what can be a beat; each is heard so often and no more.
            most = 2 * (watch.LINES_AT_ONCE + watch.LINES_A_SECOND * (time.monotonic() - begin))
            assert monitor.beats - so_far < most, (monitor.beats - so_far, most)
        finally:
            begin = time.monotonic()
            monitor.stop()
        assert in_time(time.monotonic() - begin, 5)
    for node in nodes:
        assert Event.objects.filter(node=node).count() <= 12, node.name
    assert Operation.objects.count() <= 5 * len(nodes)
    for node in nodes:
        doors.call("list-events", {"node": node.name})
        doors.call("describe-node", {"node": node.name})
        doors.page(f"/nodes/{node.name}/")
    doors.page("/events/")
    doors.page("/")
    assert_none_are_left(before)


def heartbeats_of(node: Node) -> int:
    from nodes.models import Heartbeat

    found = Heartbeat.objects.filter(node=node).first()
    return found.beats if found is not None else 0
