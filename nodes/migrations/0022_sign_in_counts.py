from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("nodes", "0021_factor_proofs")]

    operations = [
        migrations.CreateModel(
            name="SignInCount",
            fields=[
                ("key", models.CharField(max_length=128, primary_key=True, serialize=False)),
                ("level", models.FloatField(default=0.0)),
                ("updated_at", models.DateTimeField()),
                ("next_at", models.DateTimeField(null=True)),
            ],
            options={
                "verbose_name": "count of failed sign-ins",
                "verbose_name_plural": "counts of failed sign-ins",
                "indexes": [models.Index(fields=["updated_at"], name="signin_count_updated")],
            },
        ),
    ]
