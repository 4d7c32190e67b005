"""A course with a lab, its people, and the shipped tasks with model solutions: for the tests of the attack lab."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

REGISTERS: Final = """  - op: page_map
    vm: $attacker
    gpn: 0
    mfn: $frame
    perm: r
    size: 1
  - op: context_save
    core: 0
  - op: hv_read_context
    vm: $victim
    vcpu: 0
    as: registers
"""
TOUCH: Final = """  - op: guest_read
    core: 1
    gpa: 0
    length: 16
"""

# How each shipped task is solved: the starter, changed.
MODELS: Final[dict[str, Callable[[str], str]]] = {
    "read-the-secret": lambda starter: starter.replace("mfn: 512", "mfn: $frame").replace("offset: 0", "offset: 2048"),
    "three-refusals": lambda starter: starter.replace("mfn: 512", "mfn: $frame") + REGISTERS,
    "stale-entry": lambda starter: re.sub(r"  # .*\n", TOUCH, starter, count=1),  # where the file says what is missing
}


@dataclass
class Class:
    """ines teaches; stu and mia learn; the lab is the shipped task of that name."""

    ines: Any
    stu: Any
    mia: Any
    course: Any
    item: Any
    member: Any  # stu
    other: Any  # mia
    solution: str


def make_class(name: str = "read-the-secret", *, text: str | None = None) -> Class:
    from webapp.accounts.models import User
    from webapp.courses import lab, services
    from webapp.courses.models import Item
    from webapp.tenants.services import membership_add

    ines, stu, mia = (User.objects.get_or_create(username=each)[0] for each in ("ines", "stu", "mia"))
    membership_add(by=None, user=ines, role="teacher")
    course = services.course_create(by=ines, title="Who owns the page tables")
    task = text or dict(lab.shipped())[name]
    item = services.item_add(
        by=ines, course=course, kind="attack", title="A lab of the course", text=task, points=20, shown=True
    )
    member, other = (services.member_add(course=course, user=each, nickname=each.username) for each in (stu, mia))
    starter = lab.task_of(item).starter
    item = Item.objects.get(pk=item.pk)
    return Class(ines, stu, mia, course, item, member, other, MODELS[name](starter))


def work_all() -> int:
    """Do what is due, as a worker would."""
    from webapp.courses import lab
    from webapp.courses.models import Attempt

    due = list(Attempt.objects.filter(due_at__isnull=False).order_by("pk").values_list("pk", flat=True))
    for pk in due:
        lab.attempt_work(attempt_id=pk)
    return len(due)
