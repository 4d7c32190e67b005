from django.db import migrations, models

import webapp.accounts.models


def give_aliases(apps, schema_editor):
    User = apps.get_model("accounts", "User")
    for user in User.objects.filter(alias__isnull=True):
        user.alias = webapp.accounts.models.alias_make()
        user.save(update_fields=["alias"])


class Migration(migrations.Migration):
    dependencies = [("accounts", "0002_apitoken")]

    operations = [
        migrations.AddField("user", "deleted_at", models.DateTimeField(blank=True, null=True)),
        migrations.AddField("user", "alias", models.CharField(editable=False, max_length=24, null=True)),
        migrations.RunPython(give_aliases, migrations.RunPython.noop),
        migrations.AlterField(
            "user",
            "alias",
            models.CharField(default=webapp.accounts.models.alias_make, editable=False, max_length=24, unique=True),
        ),
    ]
