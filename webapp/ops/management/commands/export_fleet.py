"""`manage.py export_fleet`: organisations, their VMs and the hosts as one JSON document; no wishes, no people."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from webapp.ops import exchange


class Command(BaseCommand):
    help = "Write organisations, their VMs and the hosts as JSON. Wishes, people and secrets are never in it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, nargs="?", metavar="FILE", help="standard output when it is not given")

    def handle(self, *args: Any, **options: Any) -> None:
        document = exchange.export()
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        path: Path | None = options["file"]
        if path is None:
            self.stdout.write(text, ending="")
            return
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
                handle.write(text)
        except OSError as error:
            self.stderr.write(f"export_fleet: {path} cannot be written: {error.strerror}")
            sys.exit(1)
        self.stdout.write(f"{len(document['hosts'])} hosts, {len(document['tenants'])} organisations in {path}")
