"""The eight questions as a form: what was typed in, what the page shows, and the document that both stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import settings

from webapp.errors import BadInput, Fault
from webapp.vpms import answers as language
from webapp.vpms.vocabulary import PROFILES, QUESTIONS, STRENGTHS, Profile

STRENGTH_WORDS = {"must": "must", "prefer": "prefer", "dont_mind": "don't mind"}
STRENGTH_HELP = "Must: never traded away. Prefer: weighed against what others wish. Don't mind: left to others."
MEMORY_MIB = (8, 16)
DELEGATES = {
    "human": ("Ask me", "Every proposal waits for you. If you do not answer before the deadline, it counts as a no."),
    "auto": ("Answer for me", "A proposal that keeps your musts and your minimum is accepted at once in your name."),
}
# Members of a document that the form neither shows nor changes; they are carried over from version to version.
CARRIED = ("trustClass", "labels", "disagreement", "maintenance", "validity")

Answers = dict[str, dict[str, str]]


def delegate_default(mode: str = "human") -> dict[str, Any]:
    """People decide; silence is a no."""
    return {"mode": mode, "deadline_s": settings.NEGOTIATION_DEADLINE_SECONDS, "onTimeout": "reject"}


def profile_named(name: str) -> Profile | None:
    return next((profile for profile in PROFILES if profile.name == name), None)


def answers_of_profile(profile: Profile) -> Answers:
    return {question: dict(given) for question, given in profile.answers.items()}


def read_answers(post: Mapping[str, str]) -> Answers:
    """The answers as typed. What is missing counts as don't mind; what does not exist is refused by the check."""
    found: Answers = {}
    for name in QUESTIONS:
        strength = post.get(f"{name}-strength", "dont_mind")
        given = {"strength": strength}
        if post.get(name):
            given["answer"] = post[name]
        found[name] = given
    return found


def read_size(post: Mapping[str, str], before: Mapping[str, Any]) -> dict[str, Any]:
    text = post.get("memory_mib", "")
    allowed = {*MEMORY_MIB, before.get("memory_mib")}
    if not (text.isascii() and text.isdecimal()) or int(text[:9]) not in allowed:
        shown = ", ".join(str(size) for size in sorted(size for size in allowed if size))
        raise BadInput([Fault("$.size.memory_mib", f"must be one of {shown}")])
    return {**before, "vcpus": before.get("vcpus", 1), "memory_mib": int(text)}


def read_delegate(post: Mapping[str, str], before: Mapping[str, Any]) -> dict[str, Any]:
    mode = post.get("delegate", "human")
    if before.get("mode") == mode:
        return dict(before)
    if mode not in DELEGATES:
        raise BadInput([Fault("$.delegate.mode", f"must be one of {', '.join(DELEGATES)}")])
    return {**delegate_default(mode), **{key: before[key] for key in ("deadline_s",) if key in before}}


def document_from_form(
    post: Mapping[str, str],
    *,
    vm: str,
    tenant: str,
    version: int,
    before: Mapping[str, Any] | None,
    offers: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """The document for what was typed, with everything that the form does not show as it was before."""
    old: Mapping[str, Any] = before or {}
    faults: list[Fault] = []
    parts: dict[str, Any] = {}
    for read, member in ((read_size, "size"), (read_delegate, "delegate")):
        try:
            parts[member] = read(post, old.get(member, {}))
        except BadInput as refused:
            faults += refused.faults
    given = read_answers(post)
    try:
        language.check_answers(given)
    except BadInput as refused:
        faults += refused.faults
    if faults:
        raise BadInput(faults)
    document = language.document_from_answers(
        given, vm=vm, tenant=tenant, version=version, offers=offers, size=parts["size"], delegate=parts["delegate"]
    )
    return {**document, **{member: old[member] for member in CARRIED if member in old}}


def rows(answers: Answers, faults: Sequence[Fault] = ()) -> list[dict[str, Any]]:
    """The questions for the template: answers with their consequences, the chosen ones marked, faults beside them."""
    shown = []
    for number, (name, question) in enumerate(QUESTIONS.items(), start=1):
        given = answers.get(name, {})
        strength = given.get("strength", "dont_mind")
        shown.append(
            {
                "name": name,
                "number": number,
                "question": question,
                "answers": [(answer, answer.name == given.get("answer")) for answer in question.answers],
                "strengths": [(key, STRENGTH_WORDS[key], key == strength) for key in STRENGTHS],
                "faults": [fault.reason for fault in faults if fault.path.startswith(f"$.{name}")],
            }
        )
    return shown


def described(answers: Answers | None) -> str:
    """The answers by their nearest profile: "Confidential + 2 changes"."""
    if answers is None:
        return ""
    name, changes = language.nearest_profile(answers)
    profile = profile_named(name)
    label = profile.label if profile else name
    if not changes:
        return label
    return f"{label} + {changes} changes" if changes > 1 else f"{label} + 1 change"
