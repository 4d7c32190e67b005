"""One cell of the wall as HTML. A page has hundreds, and template nodes for each took a good part of its time."""

from __future__ import annotations

from typing import Any

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

register = template.Library()


@register.simple_tag
def wall_cell(cell: dict[str, Any]) -> SafeString:
    """The cell as `fleet_wall.cell_shown` made it; src/wall.ts keeps it up to date by its attributes."""
    told = format_html(' data-measured="{}" data-at="{}"', cell["measured"], cell["at"]) if cell["measured"] else ""
    says = _("was: %(word)s") % {"word": cell["was"]} if cell["was"] else cell["why"]
    below = format_html('<span class="wall-why">{}</span>', says) if says else ""
    return format_html(
        '<td data-check="{}" data-label="{}" data-state="{}"{}><span class="wall-cell">'
        '<span class="status status-{}">{}</span> <span class="wall-age num">{}</span></span>{}</td>',
        *(cell["name"], cell["check"], cell["state"], told, cell["look"], cell["word"], cell["age_words"], below),
    )
