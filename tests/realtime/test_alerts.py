"""The example alert rules speak of metrics that there are, by labels that they have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from nodes.models import ConnectionReason

pytestmark = pytest.mark.django_db
RULES = Path(__file__).resolve().parents[2] / "docs" / "alerts.yml"


def test_every_rule_names_metrics_and_reasons_that_exist(client: Client, settings: object) -> None:
    settings.NODEADMIN_METRICS_TOKEN = "right"  # type: ignore[attr-defined]
    text = client.get("/metrics", headers={"Authorization": "Bearer right"}).content.decode()
    known = {family.name for family in text_string_to_metric_families(text)}
    rules = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    assert len({rule["alert"] for rule in rules}) == len(rules) >= 8
    for rule in rules:
        named = set(re.findall(r"nodeadmin_\w+", rule["expr"]))
        assert named and named <= known, rule["alert"]
        for reasons in re.findall(r'reason=~?"([^"]+)"', rule["expr"]):
            assert set(reasons.split("|")) <= set(ConnectionReason.values)
        assert rule["labels"]["severity"] in ("warning", "critical")
