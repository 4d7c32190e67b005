"""`moment`: a time as courses tell it, in the site's time zone. `rule`: when an item is due and what late costs."""

from __future__ import annotations

import datetime as dt

from django import template

from webapp.courses import deadlines
from webapp.courses.models import Item

register = template.Library()


@register.filter
def moment(value: dt.datetime) -> str:
    return deadlines.told(value)


@register.filter
def rule(value: Item) -> str:
    return deadlines.rule(value)
