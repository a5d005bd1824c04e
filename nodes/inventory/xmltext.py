"""XML from a host, read without trusting it: no entities, no network, no huge trees."""

from __future__ import annotations

import re

from lxml import etree

from nodes.inventory.parsing.effort import step

_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")


def parse_xml(text: str) -> etree._Element | None:
    """The root element, or None where ``text`` is no well-formed XML (or empty)."""
    body = _DECLARATION.sub("", text, count=1).strip()
    # libvirt writes no document type, and without one there are no entities.
    if not body or "<!DOCTYPE" in body:
        return None
    step()
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(body.encode("utf-8", "replace"), parser)
    except (etree.XMLSyntaxError, ValueError):
        return None
    return root if isinstance(root.tag, str) else None


def child_text(element: etree._Element | None, path: str) -> str | None:
    """Text of the first element at ``path`` below ``element``, without blanks around it; None where empty."""
    found = element.find(path) if element is not None else None
    text = (found.text or "").strip() if found is not None else ""
    return text or None
