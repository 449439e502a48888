"""Volumes know whether their host has made them; all that there are have been."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("volumes", "0001_initial")]

    operations = [
        migrations.AddField("volume", "made", models.BooleanField(default=True)),
        migrations.AlterField("volume", "made", models.BooleanField(default=False)),
    ]
