"""`say`: words from below the pages in the reader's language. `number`: thousands as the language has them."""

from __future__ import annotations

from django import template
from django.utils import formats

from webapp.saying import said_parts

register = template.Library()


@register.filter
def say(value: object) -> object:
    return said_parts(value)


@register.filter
def number(value: object) -> object:
    return formats.number_format(value, use_l10n=True, force_grouping=True) if isinstance(value, int) else value
