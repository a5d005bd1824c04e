"""Error pages: helpful, with a reference where nobody expected it, and never a traceback."""

import pytest
from django.http import HttpResponse
from django.test import Client, override_settings
from django.urls import include, path, reverse

from nodes.errors import NodeBusy
from tests.web.conftest import HTMX


def busy(request):
    raise NodeBusy("Another operation is changing this node.", remedy="Wait for it to end.")


def broken(request):
    raise ZeroDivisionError("the secret is s3cret")


def well(request):
    return HttpResponse("well")


urlpatterns = [
    path("busy/", busy),
    path("broken/", broken),
    path("well/", well),
    path("", include("nodeadmin.urls")),
]
handler404 = "nodes.web.errors.not_found"
handler500 = "nodes.web.errors.server_error"


@pytest.fixture
def broken_site(admin_page):
    with override_settings(ROOT_URLCONF="tests.web.test_errors"):
        yield admin_page


def test_an_expected_error_says_what_to_do(broken_site, read):
    answer = broken_site.get("/busy/")
    page = read(answer)
    assert answer.status_code == 409
    assert "Another operation is changing this node." in page.text
    assert "Wait for it to end." in page.text
    assert page.refused == []


def test_htmx_gets_it_as_a_flash_message(broken_site):
    answer = broken_site.get("/busy/", headers=HTMX)
    assert answer.status_code == 409
    assert answer["HX-Retarget"] == "#flash"
    assert "<html" not in answer.content.decode()


@pytest.mark.parametrize("headers", [{}, HTMX])
def test_an_unexpected_error_gives_a_reference_that_is_in_the_log(broken_site, caplog, headers):
    answer = broken_site.get("/broken/", headers=headers)
    page = answer.content.decode()
    assert answer.status_code == 500
    assert "s3cret" not in page
    assert "Traceback" not in page
    logged = [record for record in caplog.records if "unexpected_error" in str(record.msg)]
    assert len(logged) == 1
    reference = str(logged[0].msg).partition("'reference': '")[2][:8]
    assert len(reference) == 8
    assert reference in page


def test_what_is_not_there_is_a_page_of_ours(admin_page, read):
    answer = admin_page.get("/nope/")
    page = read(answer)
    assert answer.status_code == 404
    assert "Not found" in page.text
    assert reverse("dashboard") in page.links


def test_a_missing_page_tells_a_visitor_nothing_of_the_frame(client, db, read):
    page = read(client.get("/nope/"))
    assert "Not found" in page.text
    assert reverse("node-list") not in page.links


def test_the_policy_allows_no_inline_code(admin_page):
    policy = admin_page.get(reverse("dashboard"))["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_errors_of_the_api_stay_problem_documents():
    answer = Client().get("/api/nope")
    assert answer["Content-Type"].startswith("application/problem+json")


def test_no_cache_between_keeps_what_a_user_saw(admin_page):
    for address in ("/nodes/", "/api/schema", "/nowhere/"):
        assert admin_page.get(address)["Cache-Control"] == "private, no-cache"
    assert "no-store" in admin_page.get("/settings/tokens/")["Cache-Control"]
