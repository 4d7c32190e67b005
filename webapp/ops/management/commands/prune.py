"""`manage.py prune`: remove what is past the time for which the settings keep it. Never anything of the log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from webapp.ops import retention


class Command(BaseCommand):
    help = "Remove old checkpoints, events, mails, deliveries and sign-ins; the log is kept for ever."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only say how many rows would go")
        parser.add_argument(
            "--archive",
            type=Path,
            metavar="FOLDER",
            help="put the history of ended runs there first, as files for manage.py loaddata",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        folder: Path | None = options["archive"]
        if folder is not None and not folder.is_dir():
            raise CommandError(f"{folder} is no folder; nothing was removed.")
        try:
            found = retention.counts() if options["dry_run"] else retention.prune(folder)
        except OSError as fault:
            raise CommandError(f"The archive cannot be written: {fault}. What is not in it stays.") from None
        word = "would go" if options["dry_run"] else "gone"
        for kept in retention.KEPT:
            days = getattr(settings, kept.setting)
            self.stdout.write(f"{found[kept.name]:>8} {word}: {kept.name}, kept {days} days (HSVM_{kept.setting})")
