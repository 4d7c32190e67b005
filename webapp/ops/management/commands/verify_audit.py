"""`manage.py verify_audit`: read the whole log once and name the first broken entry, if there is one."""

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand

from webapp.audit import services
from webapp.ops import watching


class Command(BaseCommand):
    help = "Verify the hash chain of the audit log; exit code 1 if it is broken."

    def handle(self, *args: Any, **options: Any) -> None:
        verdict = services.verify()
        watching.chain_told(verdict)
        print(json.dumps(verdict, sort_keys=True))
        if not verdict["valid"]:
            sys.exit(1)
