"""Roles, with those that nodeadmin brings. Nobody is given one: groups keep their model permissions as they are."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

ON_NODES = ["view_node", "view_node_logs", "change_node", "maintain_node", "power_node", "delete_node"]
OF_THE_FLEET = ["add_node", "scan_host", "grant_access", "view_audit_log", "manage_ssh"]
SHARED_STORAGE = [f"{action}_declaredsharedstorage" for action in ("add", "change", "delete", "view")]
BUILTIN = {
    "administrator": [*ON_NODES, *OF_THE_FLEET, *SHARED_STORAGE],
    "operator": ["view_node", "view_node_logs", "maintain_node"],
    "viewer": ["view_node"],
}


def make_builtin_roles(apps, schema_editor):
    Role = apps.get_model("nodes", "Role")
    for name, permissions in BUILTIN.items():
        Role.objects.get_or_create(name=name, defaults={"permissions": permissions, "builtin": True})


class Migration(migrations.Migration):

    dependencies = [
        ('auth', '0012_alter_user_first_name_max_length'),
        ('nodes', '0018_audit_export'),
    ]

    operations = [
        migrations.CreateModel(
            name='Role',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=63, unique=True, verbose_name='name')),
                ('permissions', models.JSONField(default=list, verbose_name='permissions')),
                ('builtin', models.BooleanField(default=False, editable=False, verbose_name='built in')),
            ],
            options={
                'verbose_name': 'role',
                'verbose_name_plural': 'roles',
                'ordering': ['name'],
            },
        ),
        migrations.CreateModel(
            name='RoleAssignment',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('scope', models.CharField(choices=[('all', 'All nodes'), ('labels', 'Nodes with labels'), ('node', 'One node')], default='all', max_length=8, verbose_name='for')),
                ('selector', models.JSONField(blank=True, default=dict, verbose_name='labels')),
                ('scope_key', models.CharField(editable=False, max_length=80)),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='given')),
                ('expires_at', models.DateTimeField(blank=True, null=True, verbose_name='expires')),
                ('granted_by', models.ForeignKey(editable=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL, verbose_name='given by')),
                ('group', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='role_assignments', to='auth.group', verbose_name='group')),
                ('node', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='role_assignments', to='nodes.node', verbose_name='node')),
                ('role', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='assignments', to='nodes.role', verbose_name='role')),
                ('user', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='role_assignments', to=settings.AUTH_USER_MODEL, verbose_name='user')),
            ],
            options={
                'verbose_name': 'role assignment',
                'verbose_name_plural': 'role assignments',
                'ordering': ['role__name', 'pk'],
                'constraints': [models.CheckConstraint(condition=models.Q(models.Q(('group__isnull', False), ('user', None)), models.Q(('group', None), ('user__isnull', False)), _connector='OR'), name='role_has_one_holder'), models.CheckConstraint(condition=models.Q(models.Q(('node__isnull', False), ('scope', 'node')), models.Q(('node', None), ('scope__in', ('all', 'labels'))), _connector='OR'), name='role_scope_is_whole'), models.UniqueConstraint(condition=models.Q(('group', None)), fields=('role', 'user', 'scope_key'), name='one_role_a_user_and_scope'), models.UniqueConstraint(condition=models.Q(('user', None)), fields=('role', 'group', 'scope_key'), name='one_role_a_group_and_scope')],
            },
        ),
        migrations.RunPython(make_builtin_roles, migrations.RunPython.noop),
    ]
