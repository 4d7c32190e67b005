"""`manage.py runbooks > docs/operators/alerts.md`: the run-books of alerts as a page of the docs."""

from typing import Any

from django.core.management.base import BaseCommand
from django.utils import translation

from webapp.notices.runbooks import RUNBOOKS

HEAD = """# Answer each alert

Alerts stand at `/operator/alerts/`, newest first; each links to the moment at which it happened and to its
run-book below. The same text stands on the page of each alert. `GET /api/alerts` tells them to programs.

A silence keeps mails, webhooks and notices of an alert back until its end, and never hides the alert. What ends by
itself and comes again within ten minutes is the same alert, which counts.
"""


class Command(BaseCommand):
    help = "Print the run-books of alerts as Markdown."

    def handle(self, *args: Any, **options: Any) -> None:
        with translation.override("en"):
            self.stdout.write(markdown())


def markdown() -> str:
    """The page, in English."""
    lines = [HEAD]
    lines += [f"- [{book.label}](#{kind})" for kind, book in RUNBOOKS.items()]
    for kind, book in RUNBOOKS.items():
        lines += ["", f'<a id="{kind}"></a>', "", f"## {book.label}", "", str(book.means), ""]
        lines += [f"**What is unharmed.** {book.unharmed}", ""]
        lines += [f"{number}. {step}" for number, step in enumerate(book.steps, start=1)]
        lines += ["", f"**When it ends.** {book.ends}"]
    return "\n".join(lines) + "\n"
