"""`manage.py keeper`: relays due rows to the workers until it is asked to stop."""

import signal
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from webapp.ops import fleet_scale, story
from webapp.ops.keeper import Keeper


class Command(BaseCommand):
    help = "Enqueue what is due, return what was lost, give up what never gets on."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--story", action="store_true", help="keep the demo's story going")

    def handle(self, *args: Any, **options: Any) -> None:
        keeper = Keeper(going_on if options["story"] else None)

        def stop(*_: Any) -> None:
            keeper.stopping = True

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        keeper.run()


def going_on() -> None:
    """The story, and the fleet if it was loaded."""
    story.tick()
    fleet_scale.tick()
