from django.db import migrations, models
from django.db.models import Q


def mark_automatic(apps, schema_editor):
    """Unfinished refreshes that nobody asked for belong to the schedule's queue."""
    operations = apps.get_model("nodes", "Operation").objects
    asked_by_nobody = Q(requested_by=None, requested_by_name="")
    operations.filter(asked_by_nobody, kind="refresh-node", status__in=("queued", "running")).update(automatic=True)


class Migration(migrations.Migration):
    dependencies = [("nodes", "0009_unfit_targets")]

    operations = [
        migrations.AddField(
            model_name="operation",
            name="automatic",
            field=models.BooleanField(default=False, editable=False, verbose_name="automatic"),
        ),
        migrations.AddField(
            model_name="node",
            name="inventory_failures",
            field=models.PositiveSmallIntegerField(default=0, editable=False),
        ),
        migrations.RunPython(mark_automatic, migrations.RunPython.noop),
    ]
