"""Node types become the three that there are; any other was a grouping, and becomes a label."""

import itertools

from django.db import migrations, models

TYPES = ("compute", "storage", "hybrid")
UNFINISHED = ("queued", "running")


def label_other_types(apps, schema_editor):
    node_model = apps.get_model("nodes", "Node")
    for node in node_model.objects.exclude(node_type__in=TYPES).only("pk", "node_type", "labels").iterator():
        node.labels = _labelled(node.labels, node.node_type)
        node.node_type = "hybrid"
        node.save(update_fields=["node_type", "labels"])
    # A host that is just being added gets its row only when its operation ends.
    operation_model = apps.get_model("nodes", "Operation")
    joining = operation_model.objects.filter(kind="add-node", status__in=UNFINISHED)
    for operation in joining.only("pk", "params").iterator():
        told = operation.params.get("type", "compute")
        if told not in TYPES:
            labels = _labelled(operation.params.get("labels"), told)
            operation.params = {**operation.params, "type": "hybrid", "labels": labels}
            operation.save(update_fields=["params"])


def _labelled(labels, node_type):
    """The labels with the type among them; one that is called so already keeps its value."""
    known = dict(labels or {})
    keys = itertools.chain(["type"], (f"type-{number}" for number in itertools.count(2)))
    if node_type:
        known[next(key for key in keys if known.get(key, node_type) == node_type)] = node_type
    return known


class Migration(migrations.Migration):

    dependencies = [
        ("nodes", "0006_unattended"),
    ]

    operations = [
        migrations.RunPython(label_other_types, migrations.RunPython.noop),
        migrations.AlterField(
            model_name="node",
            name="node_type",
            field=models.CharField(
                choices=[("compute", "Compute"), ("storage", "Storage"), ("hybrid", "Hybrid")],
                db_index=True,
                default="compute",
                error_messages={"invalid_choice": "Unknown node type. It can be: compute, storage, hybrid."},
                max_length=32,
                verbose_name="type",
            ),
        ),
        migrations.AddConstraint(
            model_name="node",
            constraint=models.CheckConstraint(
                condition=models.Q(("node_type__in", ("compute", "storage", "hybrid"))),
                name="node_type_is_known",
            ),
        ),
    ]
