"""`{% term "tlb" %}` is a technical term with its tip, `{% first_steps "tenant" %}` the list of first steps."""

from __future__ import annotations

from typing import Any

from django import template
from django.template.loader import render_to_string

from webapp.ops import selectors
from webapp.ops.glossary import SECTIONS, TERMS
from webapp.roles import role_names

register = template.Library()


@register.simple_tag(takes_context=True)
def term(context: template.Context, name: str, shown: str = "") -> str:
    """A term of the glossary, in other words if given: a tag, or with `as` a part of a sentence to be translated.
    A name that the glossary lacks is an error, not an empty tip."""
    found = TERMS[name]
    request = context["request"]
    request.tips = getattr(request, "tips", 0) + 1  # a page may name a term twice
    facts = {
        "term": found,
        "shown": shown or found.word,
        "section": SECTIONS.get(found.section),
        "id": f"tip-{found.name}-{request.tips}",
    }
    return render_to_string("ops/_term.html", facts)


@register.inclusion_tag("ops/_first_steps.html", takes_context=True)
def first_steps(context: template.Context, area: str) -> dict[str, Any]:
    """The four first steps of this area, as long as the person has not put them away."""
    request = context["request"]
    steps = selectors.first_steps(user=request.user, area=area) if area in role_names(request.user) else None
    return {"steps": steps, "request": request, "csrf_token": context.get("csrf_token")}
