import json

import django.db.models.deletion
from django.db import migrations, models


def filled(apps, schema_editor):
    """What VMs that are not stopped have of memory, and what marks of organisations take of storage."""
    pages_per_mib = 256
    VirtualMachine, Policy = apps.get_model("tenants", "VirtualMachine"), apps.get_model("tenants", "Policy")
    Act, Mark, Tenant = apps.get_model("runs", "Act"), apps.get_model("runs", "Mark"), apps.get_model("tenants", "Tenant")
    Checkpoint = apps.get_model("runs", "Checkpoint")
    for vm in VirtualMachine.objects.exclude(state="stopped").iterator():
        newest = Policy.objects.filter(vm=vm).order_by("-version").first()
        start = Act.objects.filter(vm=vm, kind="start_vm").order_by("-pk").first()
        wished = json.loads(newest.document).get("size", {}).get("memory_mib", 0) if newest else 0
        given = start.data["spec"]["vm_pages"] // pages_per_mib if start and vm.state != "held" else 0
        VirtualMachine.objects.filter(pk=vm.pk).update(memory_mib=max(wished, given))
    tenants = dict(Tenant.objects.values_list("slug", "pk"))
    for mark in Mark.objects.filter(view__startswith="tenant:").iterator():
        kept = Checkpoint.objects.filter(run=mark.run_id, slice_no=mark.slice_no).first()
        size = len(kept.sealed) + len(kept.picture) if kept else 0
        whose = tenants.get(mark.view.removeprefix("tenant:").split(",")[0])
        Mark.objects.filter(pk=mark.pk).update(tenant=whose, size=size)


class Migration(migrations.Migration):

    dependencies = [
        ('runs', '0006_turns'),
        ('tenants', '0005_memory_kept'),
    ]

    operations = [
        migrations.AddField(
            model_name='mark',
            name='size',
            field=models.PositiveIntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name='mark',
            name='tenant',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='marks', to='tenants.tenant'),
        ),
        migrations.RunPython(filled, migrations.RunPython.noop, elidable=True),
    ]
