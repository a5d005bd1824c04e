"""What a host calls itself is shown on a page as text that can be seen, and moves nothing beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.template import Context, Template

SCRIPTS = Path(__file__).parent.parent.parent / "static" / "js"


@pytest.mark.parametrize("tag", ["text", "mono"])
def test_overrides_controls_and_markup_are_shown_as_what_they_are(tag: str) -> None:
    name = "a\u202egnp.exe\x1b[2J\u2028<b>\x85"
    shown = Template(f"{{% {tag} name %}}").render(Context({"name": name}))
    assert shown.isprintable()
    assert "a\\u202egnp.exe\\x1b[2J\\u2028&lt;b&gt;\\x85" in shown


def test_a_name_of_any_script_is_isolated_from_what_stands_beside_it() -> None:
    assert Template("{% text name %}").render(Context({"name": "مرحبا"})) == "<bdi>مرحبا</bdi>"


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.js")), ids=lambda path: path.name)
def test_no_script_of_ours_makes_markup_of_text(script: Path) -> None:
    code = script.read_text()
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "DOMParser", "eval("):
        assert word not in code
