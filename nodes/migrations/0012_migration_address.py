"""Whether an administrator has set a migration address that the host's inventory does not show."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("nodes", "0011_held_autostart")]

    operations = [
        migrations.AddField(
            model_name="node",
            name="migration_address_forced",
            field=models.BooleanField(
                default=False,
                help_text="An administrator has set it though the inventory does not show it.",
                verbose_name="migration address forced",
            ),
        ),
    ]
