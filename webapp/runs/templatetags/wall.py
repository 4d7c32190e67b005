"""One cell of the wall as HTML. A page has hundreds, and template nodes for each took a good part of its time."""

from __future__ import annotations

from html import escape  # Django's own asks of each part whether it is lazy or safe, which costs more than the cell
from typing import Any

from django import template
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _

register = template.Library()


@register.simple_tag
def wall_cell(cell: dict[str, Any]) -> SafeString:
    """The cell as `fleet_wall.cell_shown` made it; src/wall.ts keeps it up to date by its attributes."""
    told = f' data-measured="{escape(cell["measured"])}" data-at="{int(cell["at"])}"' if cell["measured"] else ""
    says = _("was: %(word)s") % {"word": cell["was"]} if cell["was"] else cell["why"]
    below = f'<span class="wall-why">{escape(says)}</span>' if says else ""
    safe = {part: escape(cell[part]) for part in ("name", "check", "state", "look", "word", "age_words")}
    return mark_safe(
        f'<td data-check="{safe["name"]}" data-label="{safe["check"]}" data-state="{safe["state"]}"{told}>'
        f'<span class="wall-cell"><span class="status status-{safe["look"]}">{safe["word"]}</span> '
        f'<span class="wall-age num">{safe["age_words"]}</span></span>{below}</td>'
    )
