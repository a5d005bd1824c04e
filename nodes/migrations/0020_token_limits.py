"""What a token may is written down with it.

Tokens that exist work as before: one for reading only gets the permissions to read, every other one all
permissions that there are in this version, for all nodes and from any network, and so has what its user has,
whatever that is at the moment. A permission that a later version adds is not among them: nobody granted it.
Operations that were asked for before keep the rights of their user's account.
"""

import django.db.models.deletion
from django.db import migrations, models

READING = ["view_audit_log", "view_declaredsharedstorage", "view_node", "view_node_logs"]
ALL = sorted([
    *READING, "change_node", "maintain_node", "power_node", "delete_node", "add_node", "scan_host", "grant_access",
    "manage_ssh", *(f"{action}_declaredsharedstorage" for action in ("add", "change", "delete")),
])


def write_down_what_they_may(apps, schema_editor):
    tokens = apps.get_model("nodes", "ApiToken").objects
    tokens.filter(read_only=True).update(permissions=READING)
    tokens.filter(read_only=False).update(permissions=ALL)


class Migration(migrations.Migration):

    dependencies = [
        ('nodes', '0019_roles'),
    ]

    operations = [
        migrations.AddField(
            model_name='apitoken',
            name='last_used_from',
            field=models.GenericIPAddressField(null=True, verbose_name='last used from'),
        ),
        migrations.AddField(
            model_name='apitoken',
            name='networks',
            field=models.JSONField(default=list, verbose_name='source networks'),
        ),
        migrations.AddField(
            model_name='apitoken',
            name='node_uuids',
            field=models.JSONField(default=list, verbose_name='nodes'),
        ),
        migrations.AddField(
            model_name='apitoken',
            name='permissions',
            field=models.JSONField(default=list, verbose_name='permissions'),
        ),
        migrations.AddField(
            model_name='apitoken',
            name='scope',
            field=models.CharField(choices=[('all', 'All nodes'), ('labels', 'Nodes with labels'), ('nodes', 'Named nodes')], default='all', max_length=8, verbose_name='for'),
        ),
        migrations.AddField(
            model_name='apitoken',
            name='selector',
            field=models.JSONField(default=dict, verbose_name='labels'),
        ),
        migrations.AddField(
            model_name='operation',
            name='token',
            field=models.ForeignKey(editable=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='operations', to='nodes.apitoken'),
        ),
        migrations.AddField(
            model_name='operation',
            name='token_limits',
            field=models.JSONField(editable=False, null=True),
        ),
        migrations.RunPython(write_down_what_they_may, migrations.RunPython.noop),
    ]
