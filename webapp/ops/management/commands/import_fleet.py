"""`manage.py import_fleet FILE`: register the organisations, VMs and hosts of a document, all or none."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from webapp.errors import BadInput
from webapp.ops import exchange


class Command(BaseCommand):
    help = "Register the organisations, VMs and hosts of FILE as export_fleet writes them: all of them, or nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE")

    def handle(self, *args: Any, **options: Any) -> None:
        path: Path = options["file"]
        try:
            with path.open("rb") as handle:
                count = exchange.take_in(handle.read(exchange.MOST_BYTES + 1))
        except OSError as error:
            self.stderr.write(f"import_fleet: {path} cannot be read: {error.strerror}")
            sys.exit(1)
        except BadInput as refused:
            self.stderr.write(f"import_fleet: nothing was taken in; {path} has these faults:")
            for fault in refused.faults:
                self.stderr.write(f"  {fault.path}: {fault.reason}")
            sys.exit(1)
        self.stdout.write(f"taken in: {count['hosts']} hosts, {count['tenants']} organisations, {count['vms']} VMs")
