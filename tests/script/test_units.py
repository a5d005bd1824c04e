"""The examples of docs/systemd: what they start and set exists, and what has to be set is."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from django.core.management import get_commands

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "docs/systemd").glob("*.service"))
ENVIRONMENTS = [path.read_text() for path in sorted((ROOT / "docs/systemd").glob("environment.*"))]
MOST_EXPOSURE = 3.0
KNOWN = "\n".join(
    path.read_text() for path in (ROOT / "nodeadmin/settings").glob("*.py") if path.name != "test.py"
)


def test_there_is_one_for_each_kind_of_process() -> None:
    assert [path.stem for path in UNITS] == [
        "nodeadmin-monitor", "nodeadmin-web", "nodeadmin-worker@", "nodeadmin",
    ]  # fmt: skip


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_a_unit_starts_a_command_that_exists_with_secrets_out_of_files(unit: Path) -> None:
    text = unit.read_text()
    command = re.search(r"^ExecStart=\S+/python manage\.py (\w+)", text, re.MULTILINE)
    assert command is not None
    assert command[1] in get_commands()
    loaded = set(re.findall(r"^LoadCredential=([\w-]+):", text, re.MULTILINE))
    named = dict(re.findall(r"(NODEADMIN_\w+)_FILE=%d/([\w-]+)", text))
    assert set(named.values()) == loaded
    needed = {"NODEADMIN_SECRET_KEY", "NODEADMIN_SEAL_KEYS", "NODEADMIN_AUDIT_KEY"}
    assert needed | (set() if unit.stem == "nodeadmin" else {"NODEADMIN_DATABASE_URL"}) <= set(named)


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_a_unit_leaves_the_service_little_of_the_machine(unit: Path) -> None:
    analysis = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    found = re.search(r"Overall exposure level for \S+ ([\d.]+)", analysis.stdout)
    assert found is not None, analysis.stderr
    assert float(found[1]) <= MOST_EXPOSURE


@pytest.mark.parametrize("text", [*ENVIRONMENTS, *(path.read_text() for path in UNITS)])
def test_every_variable_is_one_that_the_settings_read(text: str) -> None:
    names = set(re.findall(r"\b(NODEADMIN_\w+?)(?:_FILE)?=", text))
    assert names
    assert {name for name in names if f'"{name}"' not in KNOWN} == set()
