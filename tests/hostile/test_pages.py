"""What a host calls itself is shown on a page as text that can be seen, and moves nothing beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.template import Context, Template
from django.test import Client
from django.urls import reverse

from nodes.errors import ProbeFailed
from nodes.events import record
from nodes.inventory.document import Problem
from nodes.models import Node
from nodes.web.visible_text import visible_page
from tests.factories import make_node, make_user

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


def test_whatever_template_shows_it_a_page_has_no_override_and_no_control() -> None:
    page = '<a title="a\u202eb" href="/x\u202e">a\u202egnp\x1b[2J\u2029\x9b</a> ❤️ 👩‍💻 \u0645\r\n\t<td>b</td>'
    assert visible_page(page) == (
        '<a title="a\\u202eb" href="/x\u202e">'
        "a\\u202egnp\\x1b[2J\\u2029\\x9b</a> ❤️ 👩‍💻 \u0645\r\n\t<td>b</td>"
    )


def test_tooltips_labels_and_what_is_copied_have_no_override_and_no_control() -> None:
    name = "a\u202egnp\x1b[2J\x9b"
    for read in ("title", "aria-label", "alt", "data-copy"):
        shown = visible_page(f'<p id="{name}" {read}="{name}" data-key="{name}">b</p>')
        assert shown == f'<p id="{name}" {read}="a\\u202egnp\\x1b[2J\\x9b" data-key="{name}">b</p>'
    copied = Template("{% mono name copy=True %}").render(Context({"name": f"{name}\nreboot\n"}))
    assert 'data-copy="a\\u202egnp\\x1b[2J\\x9b\\x0areboot\\x0a"' in copied


def test_what_a_form_sends_back_stays_as_it_is() -> None:
    page = '<textarea name="notes">\u200fa\u202eb</textarea><input value="\u202e"><script>"\u2028"</script>'
    assert visible_page(page) == page
    assert visible_page(f"{page}\u202e") == f"{page}\\u202e"


@pytest.mark.django_db
def test_a_page_shows_what_a_host_says_of_itself_as_it_is(client: Client) -> None:
    node = make_node("kvm-01")
    Node.objects.filter(pk=node.pk).update(cpu_model="a\u202egnp\x1b[2J")
    record("node_changed", "The disk “x\u202egnp\x1b[2J” is gone.", node=node)
    client.force_login(make_user(is_superuser=True, is_staff=True))
    for name in ("event-list", "dashboard"):
        page = client.get(reverse(name)).content.decode()
        assert "x\\u202egnp\\x1b[2J" in page
        assert not {"\u202e", "\x1b"} & set(page)


def test_what_an_error_quotes_of_a_host_can_be_seen_in_answers_pages_and_logs() -> None:
    error = ProbeFailed("It said: a\u202egnp\x1b[2J\x9b", remedy="Look at b\u2066c.")
    assert error.detail() == "It said: a\\u202egnp\\x1b[2J\\x9b Look at b\\u2066c."
    assert str(error) == error.message
    again = ProbeFailed(error.message)
    assert again.message == error.message
    assert Problem("pci", "lspci", "failed", "a\u202eb").message == "a\\u202eb"
