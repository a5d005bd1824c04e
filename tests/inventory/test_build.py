"""Building an inventory: what fails costs its own section, and says what to do."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from nodes.inventory.build import build
from nodes.inventory.document import HostDocument, SourceOutput, SourceStatus
from nodes.inventory.registry import SECTIONS, all_libvirt_sources, all_sources, section
from nodes.inventory.section import Parsed, Section
from nodes.inventory.source import LibvirtSource, Source
from tests.inventory.documents import host_document, host_names


@dataclass(frozen=True)
class Text:
    text: str


TOOL = Source("tool", "smartctl --scan", needs="smartctl", needs_root=True, timeout_s=7)
FILES = Source("files", "cat /etc/one", needs_root=True)


def read(document: HostDocument) -> Parsed[Text]:
    return Parsed(Text(document.text("tool")))


def broken(document: HostDocument) -> Parsed[Text]:
    raise IndexError("list index out of range")


WELL = Section("well", "Well", (TOOL, FILES), read, (LibvirtSource("libvirt:domain"),))
BROKEN = Section("broken", "Broken", (), broken)


def output(name: str, status: SourceStatus = SourceStatus.OK, stderr: str = "") -> SourceOutput:
    return SourceOutput(name, status, "text", stderr, 1 if status is SourceStatus.FAILED else 0)


def document(*outputs: SourceOutput) -> HostDocument:
    base = {"tool": output("tool"), "files": output("files")}
    return HostDocument("2025-03-01T10:00:00Z", base, "ssh", "ada").with_sources(
        {out.name: out for out in outputs}
    )


def test_a_parser_that_raises_costs_its_own_section_alone() -> None:
    inventory = build(document(), [BROKEN, WELL])
    assert inventory.results["broken"].facts is None
    assert [problem.code for problem in inventory.results["broken"].problems] == ["parser_failed"]
    assert inventory.results["well"].plain == {"text": "text"}
    assert inventory.plain() == {"well": {"text": "text"}}
    assert inventory.results["well"].problems == ()


@pytest.mark.parametrize(
    ("failed", "words"),
    [
        (output("tool", SourceStatus.MISSING), "Install the package smartmontools."),
        (output("tool", SourceStatus.DENIED), "ada may not read smartctl. Allow it in sudoers"),
        (output("files", SourceStatus.DENIED), "cat /etc/one"),
        (output("tool", SourceStatus.TIMEOUT), "smartctl gave no answer within 7 s."),
        (
            output("tool", SourceStatus.FAILED, "no \udcff disk\nmore"),
            "failed with status 1. no \ufffd disk",
        ),
        (output("tool", SourceStatus.TRUNCATED), "only its beginning is known"),
        (output("tool", SourceStatus.NOT_RUN), "was not asked"),
    ],
)
def test_a_failed_source_is_a_problem_that_says_what_to_do(failed: SourceOutput, words: str) -> None:
    result = build(document(failed), [WELL]).results["well"]
    [problem] = result.problems
    assert (problem.section, problem.source, problem.code) == ("well", failed.name, failed.status.value)
    assert words in problem.message
    assert result.unread == {failed.name: failed.status.value}


def test_items_that_fail_alike_are_one_problem() -> None:
    items = [output(f"tool:sd{letter}", SourceStatus.TIMEOUT) for letter in "abc"]
    result = build(document(output("tool:sdd"), *items), [WELL]).results["well"]
    [problem] = result.problems
    assert (problem.source, problem.code) == ("tool", "timeout")
    assert problem.message.endswith("(3 times)")


def test_a_source_that_is_missing_by_nature_is_no_problem() -> None:
    optional = Section("well", "Well", (TOOL,), read, optional=("tool",))
    assert build(document(output("tool", SourceStatus.MISSING)), [optional]).problems == ()
    assert len(build(document(output("tool", SourceStatus.DENIED)), [optional]).problems) == 1


def test_a_source_that_no_probe_asked_is_a_problem() -> None:
    result = build(HostDocument("2025-03-01T10:00:00Z"), [WELL]).results["well"]
    assert {problem.code for problem in result.problems} == {"not_run"}


def test_sources_of_two_sections_are_asked_once() -> None:
    other = Section("other", "Other", (TOOL,), read, (LibvirtSource("libvirt:domain"),))
    assert all_sources([WELL, other]) == (TOOL, FILES)
    assert all_libvirt_sources([WELL, other]) == (LibvirtSource("libvirt:domain"),)


def test_two_sources_of_one_name_are_refused() -> None:
    other = Section("other", "Other", (Source("tool", "true"),), read)
    with pytest.raises(ValueError, match="'tool'"):
        all_sources([WELL, other])


class TestRegistry:
    @pytest.mark.parametrize("slug", [candidate.slug for candidate in SECTIONS])
    def test_every_section_has_a_recorded_document_behind_it(self, slug: str) -> None:
        """A section comes with a host that it was seen to read: in tests/fixtures/hosts."""
        candidate = section(slug)
        names = {source.name for source in (*candidate.sources, *candidate.libvirt)}
        seen = set()
        for host in host_names():
            recorded = host_document(host)
            told = {name for name in names if recorded.text(name) or any(recorded.items(name))}
            result = build(recorded, [candidate]).results[slug]
            if told and result.plain is not None:
                seen |= told
        assert seen, f"no host in tests/fixtures/hosts has any of {sorted(names)}"

    def test_slugs_are_unique_and_fit_an_address(self) -> None:
        slugs = [candidate.slug for candidate in SECTIONS]
        assert len(set(slugs)) == len(slugs)
        assert all(slug.isidentifier() and slug.islower() for slug in slugs)

    def test_an_unknown_section_is_a_key_error(self) -> None:
        with pytest.raises(KeyError):
            section("no-such-section")

    @pytest.mark.parametrize("host", host_names())
    def test_every_recorded_host_is_parsed_by_every_section(self, host: str) -> None:
        results = build(host_document(host)).results
        assert [slug for slug, result in results.items() if result.plain is None] == []
