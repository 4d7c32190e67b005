"""`manage.py restore FILE`: put a backup in the place of the site's database, all or nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from webapp.errors import VpmsError
from webapp.ops import backup
from webapp.runs.engine import ENGINE_VERSION


class Command(BaseCommand):
    help = "Check the backup in FILE, put it in the place of the database, and compare what is there then with it."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE")
        parser.add_argument("--replace", action="store_true", help="there is data now, and it may be replaced")
        parser.add_argument("--check", action="store_true", help="only say whether the backup is whole and fits here")

    def handle(self, *args: Any, **options: Any) -> None:
        path = options["file"].absolute()
        try:
            found = backup.check(path) if options["check"] else backup.restore(path, replace=options["replace"])
        except VpmsError as error:
            self.stderr.write(f"restore: {error.message}")
            sys.exit(1)
        done = "is whole and fits here" if options["check"] else "restored, and compared: equal to the backup"
        self.stdout.write(f"{options['file']} {done}")
        self.stdout.write("\n".join(backup.told(found)))
        if not options["check"] and found["engine"] != ENGINE_VERSION:
            self.stdout.write(f"The engine here is {ENGINE_VERSION}: runs of {found['engine']} can be read, not go on.")
        if not options["check"]:
            self.stdout.write("Now run: manage.py migrate, and start the site.")
