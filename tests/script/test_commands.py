"""The commands of script/: their arguments, and the set-up they share."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env={**os.environ, **environment},
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def with_library(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run("bash", "-c", f". script/lib.sh; {code}", **environment)


@pytest.mark.parametrize("command", ["server", "test", "bench", "sbom"])
def test_every_command_explains_itself(command: str) -> None:
    done = run(f"script/{command}", "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"Usage: script/{command}")


@pytest.mark.parametrize("arguments", [("--port", "0"), ("--port", "70000"), ("--port",), ("--wrong",)])
def test_server_refuses_arguments_that_do_not_fit(arguments: tuple[str, ...]) -> None:
    done = run("script/server", *arguments)
    assert done.returncode == 1
    assert arguments[0] in done.stderr


def test_server_refuses_a_data_directory_that_others_can_read(tmp_path: Path) -> None:
    directory = tmp_path / "shared"
    directory.mkdir()
    (directory / "somebody's file").touch()
    directory.chmod(0o755)
    done = run("script/server", "--port", "1", "--data-dir", str(directory))
    assert done.returncode == 1
    assert f"chmod 0700 {directory}" in done.stderr
    assert directory.stat().st_mode & 0o777 == 0o755, "the rights of somebody's directory were changed"


def test_missing_packages_are_found_and_installed_ones_are_not() -> None:
    done = with_library("missing_packages bash no-such-package coreutils")
    assert done.stdout.split() == ["no-such-package"]


def test_an_environment_that_includes_another_set_serves_for_it(tmp_path: Path) -> None:
    """Otherwise starting the server in a developer's checkout would take the test tools away."""
    code = """
        ROOT="$TREE"; mkdir -p "$TREE/.venv/bin"; ln -s /usr/bin/python3 "$TREE/.venv/bin/python"
        cp -r requirements "$TREE/"
        { venv_key dev; venv_key base; } >"$TREE/.venv/ready"
        make_venv() { echo "made $2"; mkdir -p "$1"; }
        ensure_venv base; ensure_venv dev; rm -r "$TREE/.venv"; ensure_venv base
    """
    done = with_library(code, TREE=str(tmp_path), NODEADMIN_CACHE=str(tmp_path / "cache"))
    assert done.stdout.split("\n") == ["made base", ""], done.stderr
    assert (tmp_path / ".venv").is_symlink()


def test_an_environment_goes_on_to_serve_for_an_included_set_whose_pins_alone_have_changed(
    tmp_path: Path,
) -> None:
    code = """
        ROOT="$TREE"; mkdir -p "$TREE/.venv/bin"; ln -s /usr/bin/python3 "$TREE/.venv/bin/python"
        cp -r requirements "$TREE/"
        { venv_key dev; venv_key scale; } >"$TREE/.venv/ready"; echo "# new" >>"$TREE/requirements/scale.txt"
        make_venv() { echo "made $2"; }
        ensure_venv dev scale; ensure_venv scale
    """
    done = with_library(code, TREE=str(tmp_path), NODEADMIN_CACHE=str(tmp_path / "cache"))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_an_environment_is_thrown_away_when_its_making_was_interrupted(tmp_path: Path) -> None:
    code = """
        ROOT="$TREE"; cp -r requirements "$TREE/"; key="$(venv_key base)"; venv="$CACHE/venv/${key/ /-}"
        mkdir -p "$venv/bin"; ln -s /usr/bin/python3 "$venv/bin/python"
        make_venv() { echo "made $2"; }
        ensure_venv base; touch "$venv/ready"; ensure_venv base
    """
    done = with_library(code, TREE=str(tmp_path), NODEADMIN_CACHE=str(tmp_path / "cache"))
    assert done.stdout.split("\n") == ["made base", ""], done.stderr


@pytest.mark.parametrize("name", ["build", "base", "scale", "dev"])
def test_every_requirement_is_pinned_with_a_hash_and_from_no_named_index(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    entries = re.split(r"\n(?=\S)", text.strip())
    assert entries
    for entry in entries:
        assert re.match(r"[a-z0-9.\-]+==\S+", entry), f"not pinned: {entry.splitlines()[0]}"
        assert "--hash=sha256:" in entry, f"without a hash: {entry.splitlines()[0]}"
    assert "://" not in text
    assert "-index" not in text


def test_the_bill_of_materials_lists_every_pinned_package_and_vendored_file_with_licence_and_hash() -> None:
    printed = run("script/sbom").stdout
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(printed) is None
    rows = json.loads(printed)["components"]
    python = {row["name"].lower().replace("_", "-"): row for row in rows if "pypi" in row["purl"]}
    pins = re.findall(r"^([A-Za-z0-9._-]+)==", (ROOT / "requirements/base.txt").read_text(), re.MULTILINE)
    assert set(python) == set(pins)
    assert all(row["externalReferences"][-1]["hashes"] for row in python.values())
    assert [name for name, row in python.items() if not row.get("licenses")] == ["colorama"], "Windows alone"
    vendored = {file["name"] for row in rows for file in row.get("components", ())}
    assert "static/vendor/htmx/htmx.min.js" in vendored
