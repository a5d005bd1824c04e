"""The front-end files of others are those that were recorded, each with its licence."""

import hashlib
import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
VENDOR = ROOT / "static" / "vendor"
MANIFEST = json.loads((VENDOR / "vendor.json").read_text())


def test_every_vendored_file_has_the_recorded_hash():
    for name, recorded in MANIFEST["sha256"].items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == recorded, name


def test_nothing_lies_there_that_is_not_recorded():
    found = {p.relative_to(VENDOR).as_posix() for p in VENDOR.rglob("*") if p.is_file()}
    assert found == set(MANIFEST["sha256"]) | {"vendor.json", "VENDOR.md"}


def test_every_package_lies_beside_its_licence():
    for package in MANIFEST["packages"]:
        for target in package["files"].values():
            assert (VENDOR / target).parent.joinpath("LICENSE").stat().st_size > 500, target


def test_no_file_names_a_source_map_that_is_not_shipped():
    for name in MANIFEST["sha256"]:
        assert b"sourceMappingURL" not in (VENDOR / name).read_bytes(), name


def test_every_icon_that_templates_and_code_name_is_in_the_sprite():
    sprite = set(re.findall(r'<symbol id="([\w-]+)"', (VENDOR / "tabler" / "icons.svg").read_text()))
    used = set()
    for template in (ROOT / "templates").rglob("*.html"):
        used |= set(re.findall(r'\{% icon "([\w-]+)"', template.read_text()))
    for module in (ROOT / "nodes" / "web").rglob("*.py"):
        used |= set(re.findall(r'icon="([\w-]+)"', module.read_text()))
    assert used
    assert used <= sprite, used - sprite
