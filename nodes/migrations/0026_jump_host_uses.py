"""Uses of jump hosts' credentials are counted; roles are granted, and no longer "given"."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('nodes', '0025_tokens_with_factor'),
    ]

    operations = [
        migrations.AlterField(
            model_name='credentialuse',
            name='kind',
            field=models.CharField(choices=[('ssh_key', 'SSH key'), ('password', 'Password'), ('nodeadmin_key', "nodeadmin's own key"), ('sudo_password', 'sudo password'), ('bmc_password', 'BMC password'), ('jump_host', 'Login of a jump host')], max_length=16, verbose_name='kind'),
        ),
        migrations.AlterField(
            model_name='roleassignment',
            name='created_at',
            field=models.DateTimeField(auto_now_add=True, verbose_name='granted'),
        ),
        migrations.AlterField(
            model_name='roleassignment',
            name='granted_by',
            field=models.ForeignKey(editable=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL, verbose_name='granted by'),
        ),
    ]
