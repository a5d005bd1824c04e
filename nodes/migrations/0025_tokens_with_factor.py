"""Whether a second factor was given for a token. None was, as far as anybody knows, for those that exist."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('nodes', '0024_own_keys'),
    ]

    operations = [
        migrations.AddField(
            model_name='apitoken',
            name='with_factor',
            field=models.BooleanField(default=False, verbose_name='made with a second factor'),
        ),
    ]
