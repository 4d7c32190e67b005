"""`manage.py backup FILE`: everything that the database holds, in one file; the site works on meanwhile."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from webapp.errors import VpmsError
from webapp.ops import backup


class Command(BaseCommand):
    help = "Write a backup of the whole site into FILE. The seal key is not in it; keep it apart."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE", help="does not exist yet; not below the run directory")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            manifest = backup.make(options["file"].absolute())
        except VpmsError as error:
            self.stderr.write(f"backup: {error.message}")
            sys.exit(1)
        self.stdout.write(f"backup written to {options['file']}")
        self.stdout.write("\n".join(backup.told(manifest)))
