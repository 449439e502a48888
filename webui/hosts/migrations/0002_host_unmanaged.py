"""Hosts tell what lies on their disks unknown to the database."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("hosts", "0001_initial")]

    operations = [
        migrations.AddField("host", "unmanaged", models.JSONField(default=list)),
    ]
