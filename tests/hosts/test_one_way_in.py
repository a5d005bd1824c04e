"""What reads a host's output goes through the framed shell: nothing else starts a process or a session."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import nodes

ROOT = Path(nodes.__file__).parent
PROCESS_CALLS = {
    "subprocess": {"Popen", "run", "call", "check_call", "check_output", "getoutput", "getstatusoutput"},
    "os": {"system", "popen", "posix_spawn", "posix_spawnp", "fork", "forkpty"},
    "asyncio": {"create_subprocess_exec", "create_subprocess_shell"},
    "pty": {"spawn", "fork"},
}
OF_A_PROCESS = frozenset(name for names in PROCESS_CALLS.values() for name in names)
OF_A_SESSION = frozenset(
    {"open_session", "open_channel", "exec_command", "invoke_shell", "invoke_subsystem", "open_sftp"}
    | {"open_exec", "open", "from_transport", "SSHClient"}
)

PROCESSES = {
    "hosts/local.py": "this machine's shell, framed",
    "hosts/journal_search.py": "a search in a process of our own, which asks no host",
}
SESSIONS = {
    "hosts/wire.py": "sends the request, for a frame alone",
    "hosts/ssh_links.py": "chooses the connection for it",
    "hosts/ssh.py": "hands the frame on",
    "hosts/sshshell.py": "the framed shell",
}


@cache
def sources() -> tuple[tuple[str, ast.Module], ...]:
    """The files in which any of the words stands."""
    words = OF_A_PROCESS | OF_A_SESSION | {"add_string"}
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(ROOT.rglob("*.py"))}
    return tuple(
        (str(path.relative_to(ROOT)), ast.parse(text))
        for path, text in texts.items()
        if any(f"{word}(" in text or f"import {word}" in text for word in words)
    )


def calls(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """What is called on what: ``("subprocess", "run")`` for ``subprocess.run(…)``."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr in OF_A_PROCESS | OF_A_SESSION:
            yield ast.unparse(node.func.value), node.func.attr


def takes_out_a_process_call(node: ast.AST) -> bool:
    """``from subprocess import run`` and its like."""
    if not isinstance(node, ast.ImportFrom):
        return False
    return any(alias.name in PROCESS_CALLS.get(node.module or "", ()) for alias in node.names)


def starts_a_process(tree: ast.AST) -> bool:
    called = any(name in PROCESS_CALLS.get(of, ()) for of, name in calls(tree))
    return called or any(takes_out_a_process_call(node) for node in ast.walk(tree))


def opens_a_session(tree: ast.AST) -> bool:
    found = {name for of, name in calls(tree) if name != "open" or of.endswith(("wire", "_links"))}
    return bool(found & OF_A_SESSION)


def test_only_the_shells_start_processes_and_sessions() -> None:
    processes = {name for name, tree in sources() if starts_a_process(tree)}
    sessions = {name for name, tree in sources() if opens_a_session(tree)}
    assert processes == set(PROCESSES), "what reads a host's output uses nodes.hosts.shell"
    assert sessions <= set(SESSIONS), "what reads a host's output uses nodes.hosts.shell"


def test_a_session_is_opened_for_a_frame_alone() -> None:
    """A command as text cannot be sent: the one function that asks for a session's command takes a frame."""
    (wire,) = (tree for name, tree in sources() if name == "hosts/wire.py")
    sent = [node for node in ast.walk(wire) if isinstance(node, ast.Constant) and node.value == "exec"]
    assert len(sent) == 1
    (function,) = (
        node
        for node in ast.walk(wire)
        if isinstance(node, ast.FunctionDef) and any(part is sent[0] for part in ast.walk(node))
    )
    assert [
        ast.unparse(argument.annotation) for argument in function.args.args[1:2] if argument.annotation
    ] == ["CommandFrame"]
    others = {name for name, tree in sources() for node in ast.walk(tree) if _asks_for_exec(node)}
    assert others <= {"hosts/wire.py"}


def _asks_for_exec(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "add_string"
        and any(isinstance(part, ast.Constant) and part.value == "exec" for part in node.args)
    )


def test_a_file_that_went_another_way_would_be_found() -> None:
    for text in (
        "import subprocess\nsubprocess.run(['ssh', 'host', 'uptime'])",
        "from subprocess import Popen\nPopen(['ssh'])",
        "import os\nos.popen('ssh host uptime').read()",
        "import asyncio\nasyncio.create_subprocess_exec('ssh')",
    ):
        assert starts_a_process(ast.parse(text)), text
    for text in (
        "transport.open_session().exec_command('uptime')",
        "import paramiko\nparamiko.SSHClient().exec_command('x')",
        "self._wire.open('session', 5)",
        "connection.open_exec('uptime')",
    ):
        assert opens_a_session(ast.parse(text)), text
