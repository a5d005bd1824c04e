"""Prints the software bill of materials as CycloneDX 1.6 (ECMA-424): script/sbom explains it.

Versions and hashes are those of the pins; licences and dependencies are what the installed packages declare
of themselves; the front-end packages are those of static/vendor/vendor.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VENDORED = ROOT / "static" / "vendor" / "vendor.json"
SPECIFICATION = "1.6"
Component = dict[str, Any]


def main(requirements: str) -> int:
    document = cyclonedx("environment", "--pyproject", "pyproject.toml", sys.executable)
    pinned = {row["purl"]: row for row in cyclonedx("requirements", requirements)["components"]}
    installed = {row["purl"]: row for row in document["components"]}
    # A pin for another platform or Python is not installed here, and is listed with what its pin says.
    components = [with_hashes(installed.get(purl), row) for purl, row in sorted(pinned.items())]
    kept = {row["bom-ref"] for row in components}
    root = document["metadata"]["component"]["bom-ref"]
    front_end = [vendored(package) for package in json.loads(VENDORED.read_text())["packages"]]
    document["components"] = components + front_end
    document["dependencies"] = [
        {"ref": root, "dependsOn": sorted(kept) + [row["bom-ref"] for row in front_end]},
        *(among(kept, row) for row in document["dependencies"] if row["ref"] in kept),
    ]
    print(json.dumps(document, indent=2, sort_keys=True))
    return 0


def cyclonedx(*arguments: str) -> dict[str, Any]:
    """What the CycloneDX command makes of the environment or of a requirements file."""
    command = [
        sys.executable,
        "-m",
        "cyclonedx_py",
        *arguments,
        "--sv",
        SPECIFICATION,
        "--output-reproducible",
        "--no-validate",
    ]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300)
    document: dict[str, Any] = json.loads(made.stdout)
    return document


def with_hashes(installed: Component | None, pin: Component) -> Component:
    """The package as it describes itself, with the hashes that its pin allows."""
    row = dict(installed or {key: value for key, value in pin.items() if key != "description"})
    named = [entry for entry in row.get("externalReferences", ()) if entry not in pin["externalReferences"]]
    row["externalReferences"] = named + pin["externalReferences"]
    if installed and not row.get("licenses") and (licence := metadata(row["name"])["License"]):
        row["licenses"] = [{"license": {"name": licence}}]
    return row


def among(kept: set[str], row: dict[str, Any]) -> dict[str, Any]:
    return {"ref": row["ref"], "dependsOn": [ref for ref in row.get("dependsOn", ()) if ref in kept]}


def vendored(package: dict[str, Any]) -> Component:
    """A front-end package: its files with their hashes as they are served."""
    name, version = package["name"], package["version"]
    purl = f"pkg:npm/{name.replace('@', '%40')}@{version}"
    hashes = json.loads(VENDORED.read_text())["sha256"]
    files = sorted(package["files"].values())
    row: Component = {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        "licenses": [{"license": {"id": package["licence"]}}],
    }
    if files:
        row["components"] = [
            {
                "type": "file",
                "bom-ref": f"{purl}#{file}",
                "name": f"static/vendor/{file}",
                "hashes": [{"alg": "SHA-256", "content": hashes[file]}],
            }
            for file in files
        ]
    return row


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
