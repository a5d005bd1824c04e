"""Stored secrets are bound to what they are for: address, user, and host key or certificate.

What is stored is bound to its node's address, user and host key as they are now, what an unfinished operation
carries to the address that it was given with. A secret that none of the keys opens stays as it is: it is
refused when it is needed, with the remedy.
"""

from __future__ import annotations

import json
from typing import Any

from cryptography.fernet import InvalidToken
from django.db import migrations

import nodes.models.sealed
from nodes.errors import NodeAdminError
from nodes.hosts.bmc_target import parse_bmc_url
from nodes.hosts.target import HostKey
from nodes.hosts.uri import parse_uri

CHUNK = 500


def ssh_binding(address: str, fingerprint: str) -> dict[str, Any] | None:
    try:
        uri = parse_uri(address, allow_test=True)
    except NodeAdminError:
        return None
    if uri.transport != "ssh":
        return None
    return {
        "transport": "ssh",
        "host": uri.host,
        "port": uri.port,
        "user": uri.user or "root",
        "proof": fingerprint,
    }


def pinned(node: Any) -> str:
    try:
        return HostKey.parse(node.host_key).fingerprint if node.host_key else ""
    except ValueError:
        return ""


def of_credential(row: Any) -> dict[str, Any] | None:
    return ssh_binding(row.node.uri, pinned(row.node))


def of_bmc(row: Any) -> dict[str, Any] | None:
    try:
        address = parse_bmc_url(row.url)
    except NodeAdminError:
        return None
    pin = row.certificate_fingerprint
    proof = f"sha256:{pin}" if pin else f"ca:{address.host}"
    return {
        "transport": "redfish",
        "host": address.host,
        "port": address.port,
        "user": row.user,
        "proof": proof,
    }


def of_operation(row: Any) -> dict[str, Any] | None:
    fingerprint = row.params.get("fingerprint") or (pinned(row.node) if row.node else "")
    return ssh_binding(row.params.get("uri") or (row.node.uri if row.node else ""), fingerprint)


HOLDERS = (("Credential", of_credential, "node"), ("Bmc", of_bmc, None), ("Operation", of_operation, "node"))


def opened(row: Any) -> dict[str, Any] | None:
    """The sealed content as it is; None where none of the keys opens it."""
    try:
        content: dict[str, Any] = json.loads(nodes.models.sealed.fernet().decrypt(row.secret._token))
    except InvalidToken:
        return None
    return content


def is_bound(content: dict[str, Any]) -> bool:
    return isinstance(content.get("for"), dict)


def bind(apps: Any, schema_editor: Any) -> None:
    for name, binding_of, related in HOLDERS:
        rows = apps.get_model("nodes", name).objects.using(schema_editor.connection.alias).exclude(secret=None)
        for row in (rows.select_related(related) if related else rows).iterator(CHUNK):
            binding, content = binding_of(row), opened(row)
            if binding is not None and content is not None and not is_bound(content):
                rows.filter(pk=row.pk).update(secret={"for": binding, "secret": content})


def unbind(apps: Any, schema_editor: Any) -> None:
    """An older version reads the secret alone."""
    for name, _binding_of, _related in HOLDERS:
        rows = apps.get_model("nodes", name).objects.using(schema_editor.connection.alias).exclude(secret=None)
        for row in rows.iterator(CHUNK):
            content = opened(row)
            if content is not None and is_bound(content):
                rows.filter(pk=row.pk).update(secret=content["secret"])


class Migration(migrations.Migration):
    dependencies = [("nodes", "0013_callers")]

    operations = [
        migrations.RunPython(bind, unbind),
        migrations.AlterField(
            model_name="credential",
            name="secret",
            field=nodes.models.sealed.BoundSecretField(editable=False, null=True, verbose_name="secret"),
        ),
        migrations.AlterField(
            model_name="bmc",
            name="secret",
            field=nodes.models.sealed.BoundSecretField(editable=False, null=True, verbose_name="password"),
        ),
        migrations.AlterField(
            model_name="operation",
            name="secret",
            field=nodes.models.sealed.BoundSecretField(editable=False, null=True),
        ),
    ]
