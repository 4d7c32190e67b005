"""The replay: an attack carried out again on the server, as rows that a page without script and a script both show.

An execution depends on attack, column and seed only, so what is made here is kept by these and is the same for
everybody. Bounded: of a long attack the steps around what matters are shown, of many frames the lowest.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from hsvm_engine.architectures import SKIPPABLE
from hsvm_engine.attackfile import Attack, builtin
from hsvm_engine.interpreter import Verdict, run_attack
from hsvm_engine.replay import Frame, State, record
from hsvm_engine.turns import Turn as Turn  # courses take it from here
from hsvm_engine.turns import turns
from webapp.classroom import checks
from webapp.classroom.services import options_of
from webapp.classroom.wording import OUTCOMES, PHASES, TURN, column_name, worded
from webapp.errors import BadInput, Fault
from webapp.runs.engine import ENGINE_VERSION

WHOLE: Final = 160  # steps that are shown without leaving any out
HEAD, TAIL, NEAR = 60, 40, 3  # of longer attacks: the first, the last before the deciding one, and around a divergence
TLB_SHOWN: Final = 12
LETTERS: Final = {"victim": "A", "attacker": "B"}  # as the titles of the attacks have them
PLAIN: Final = {"free": "free", "hypervisor": "the hypervisor", "hsvm": "H-SVM"}
VM_FIELDS: Final = ("vm", "other_vm")
SEEN: Final = (
    "data",
    "registers",
    "released",
    "freed",
    "hit",
)  # of an answer: what is no name of a place
IMAGE: Final = re.compile(r"^[0-9a-f]*\.\.\. ")
START: Final = "Nothing is done yet: the machine has just been switched on."


class Execution(NamedTuple):
    """All that an execution depends on. `skip`: what is switched off, as in Cell."""

    attack: str
    architecture: str
    skip: str = ""
    seed: int = 0

    @property
    def name(self) -> str:
        return column_name(self.architecture, self.skip)

    def run(self) -> Verdict:
        return run_attack(builtin(self.attack), self.architecture, seed=self.seed, options=options_of(skip=self.skip))


class Summary(NamedTuple):
    """What is kept of an execution that is only compared with."""

    outcome: str
    check: str
    step: int
    reason: str
    digest: str
    refused: bool  # the deciding step was refused by the check; else the check was found by experiment
    answers: tuple[tuple[str, str], ...]  # of every step: status, and what the asker learned


@lru_cache(maxsize=4)  # film, summary and reasons of one execution are asked for together
def _verdict(execution: Execution) -> Verdict:
    return execution.run()


@lru_cache(maxsize=256)
def summary_of(execution: Execution) -> Summary:
    return _summary(_verdict(execution))


def _summary(verdict: Verdict) -> Summary:
    step = verdict.step.number if verdict.step else 0
    answers = tuple((done.result["status"], _seen(done.result)) for done in verdict.steps)
    refused = verdict.step is not None and bool(verdict.step.result.get("check"))
    return Summary(verdict.outcome, verdict.check or "", step, verdict.reason, verdict.digest or "", refused, answers)


def _seen(result: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {worded(result[name])}" for name in SEEN if name in result)


@lru_cache(maxsize=64)
def film_of(execution: Execution, also: tuple[int, ...] = ()) -> dict[str, Any]:
    """The execution step by step: `steps` with the ids of their `rows`, what decided, and the digest at the end.

    `also`: steps that must be among those shown, with their neighbours.
    """
    return filmed(builtin(execution.attack), execution, _verdict(execution), also)


def filmed(attack: Attack, execution: Execution, verdict: Verdict, also: tuple[int, ...] = ()) -> dict[str, Any]:
    """The film of any attack, also of one that a student wrote: carried out again, as `execution` says."""
    options = options_of(skip=execution.skip)
    at = shown_steps(len(verdict.steps), verdict.step.number if verdict.step else 0, also)
    recording = record(attack, execution.architecture, seed=execution.seed, options=options, at=at)
    rows = _Rows()
    steps = list(_steps(recording.verdict, recording.states, rows)) if recording.states else []
    names = steps[-1].pop("names") if steps else {}
    for step in steps[:-1]:
        del step["names"]
    outcome = OUTCOMES[verdict.outcome]
    return {
        "name": execution.name,
        "attack": execution.attack,
        "title": attack.title,
        "architecture": execution.architecture,
        "skip": execution.skip,
        "seed": execution.seed,
        "engine": ENGINE_VERSION,
        "word": outcome.word,
        "look": outcome.look,
        "digest": verdict.digest or "",
        "total": len(verdict.steps),
        "deciding": verdict.step.number if verdict.step else 0,
        "left_out": recording.left_out,
        "names": names,
        "rows": rows.rows,
        "steps": steps,
    }


@lru_cache(maxsize=128)
def why_of(execution: Execution) -> dict[str, Any]:
    """What decided an execution, in words: the check with its comparison, or the harm and where it could be stopped."""
    verdict = _verdict(execution)
    elsewhere = None
    if verdict.outcome == "SUCCEEDED" and (execution.architecture, execution.skip) != ("hsvm", ""):
        there = Execution(execution.attack, "hsvm", "", execution.seed)
        elsewhere = _elsewhere(there, summary_of(there))
    acted = _acted(execution, _summary(verdict))
    return checks.explain(verdict, film_of(execution)["names"], elsewhere, acted)


def _elsewhere(there: Execution, end: Summary) -> checks.Elsewhere:
    """How the same attack ended where every check is on: tells of a success where it could have been stopped."""
    status = end.answers[end.step - 1][0] if end.step else ""
    return checks.Elsewhere(there.name, end.outcome, end.check, end.step, status, end.reason, _acted(there, end))


def _acted(execution: Execution, end: Summary) -> int:
    """The step at which a check that refused nothing acted, found by experiment: there its absence shows first."""
    if execution.skip or end.outcome != "BLOCKED" or not may_switch_off(end.check) or end.refused:
        return 0
    return compared(execution, execution._replace(skip=end.check))[0].first


@lru_cache(maxsize=64)
def turns_of(execution: Execution) -> dict[int, Turn]:
    """The steps that a film shows, each with what it found and what it left: what can be asked about them."""
    verdict = _verdict(execution)
    at = shown_steps(len(verdict.steps), verdict.step.number if verdict.step else 0)
    options = options_of(skip=execution.skip)
    return turns(builtin(execution.attack), execution.architecture, seed=execution.seed, options=options, at=at)[1]


def shown_steps(total: int, deciding: int, also: Iterable[int] = ()) -> frozenset[int]:
    """The steps of an attack that are shown, from 1."""
    if total <= WHOLE:
        return frozenset(range(1, total + 1))
    end = deciding or total
    found = {*range(1, HEAD + 1), *range(max(1, end - TAIL + 1), end + 1), total}
    for number in also:
        found.update(range(number - NEAR, number + NEAR + 1))
    return frozenset(number for number in found if 1 <= number <= total)


class _Rows:
    """Rows of the tables beside a step; most steps change few, so each row is sent once."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self._ids: dict[tuple[Any, ...], int] = {}

    def id(self, cells: Sequence[str], *, mark: str = "", look: str = "") -> int:
        key = (*cells, mark, look)
        if key not in self._ids:
            self._ids[key] = len(self.rows)
            self.rows.append({"cells": list(cells), "mark": mark, "look": look})
        return self._ids[key]


def _steps(verdict: Verdict, states: Sequence[State], rows: _Rows) -> Iterable[dict[str, Any]]:
    """Step 0 and every step shown, each with the state after it."""
    deciding = verdict.step.number if verdict.step else 0
    before = states[0]
    called: dict[int, str] = {}
    for state in states:
        called |= {handle: vm_name(name) for handle, name in state.names.items()}
        step: dict[str, Any] = {"n": state.number, "at": state.op, "says": START, "changes": []}
        if state.number:
            done = verdict.steps[state.number - 1]
            result = {n: v for n, v in done.result.items() if n not in ("status", "check", "inputs")}
            step |= {
                "phase": "attacker" if done.phase == TURN else done.phase,
                "turn": done.phase == TURN,
                "op": done.op["op"],
                "line": done.line,
                "fields": fields_of(done.op, called),
                "status": done.result["status"],
                "check": done.result.get("check", ""),
                "result": fields_of(result, called),
                "deciding": done.number == deciding,
                "left_out": state.number - before.number - 1,
                "changes": _changes(before, state, called),
            }
            step["says"] = _sentence(step, len(verdict.steps))
        step |= {
            "frames": [_frame_row(rows, m, before.frames[m], frame, called) for m, frame in state.frames.items()],
            "tlb": _tlb_rows(rows, state, called),
            "cpus": _cpu_rows(rows, state, called),
            "names": dict(called),
        }
        yield step
        before = state


def vm_name(name: str) -> str:
    """`VM A (victim)`: the letter that the map shows, and what the attack's file calls it."""
    return f"VM {LETTERS[name]} ({name})" if name in LETTERS else name if name.startswith("VM ") else f"VM C ({name})"


def fields_of(fields: Mapping[str, Any], called: Mapping[int, str]) -> str:
    """The fields of an operation for people; `called`: handle -> what the VM is called."""
    shown = []
    for name, value in fields.items():
        if name == "op":
            continue
        known = called.get(value) if name in VM_FIELDS and isinstance(value, int) else None
        if name == "image":  # sealed bytes tell nobody anything
            known = IMAGE.sub("", str(value))
        shown.append(f"{name}={known or worded(value)}")
    return ", ".join(shown)


def _sentence(step: Mapping[str, Any], total: int) -> str:
    whose = "the victim meanwhile" if step["turn"] else PHASES[step["phase"]].lower()
    answer = f"answered {step['status']}"
    if step["status"] == "NOTED":
        answer = "written down"
    elif step["status"] == "SKIPPED":
        answer = "passed over: it needs what an earlier step did not give"
    by = f", refused by {step['check']}" if step["check"] else ""
    changes = "".join(f" {change}." for change in step["changes"])
    here = " This step decided." if step["deciding"] else ""
    return f"Step {step['n']} of {total}, {whose}: {step['op']} {step['fields']} {answer}{by}.{changes}{here}"


def owner_name(owner: str, called: Mapping[int, str]) -> str:
    if owner.startswith("vm:"):
        return called.get(int(owner[3:]), f"VM {int(owner[3:]):#x}")
    return PLAIN[owner]


def _maps(frame: Frame, called: Mapping[int, str]) -> str:
    found = [f"{called.get(vm, f'VM {vm:#x}')} page {gpn:#x} {perm}" for vm, gpn, perm in frame.maps]
    return " and ".join(found) if found else "nobody"


def _holds(frame: Frame) -> str:
    return "bytes" if frame.holds_bytes else "zeros"


def _parts(before: Frame, now: Frame, called: Mapping[int, str]) -> list[tuple[str, str]]:
    """Owner, who maps it, what it holds: before and now."""
    return [
        (owner_name(before.owner, called), owner_name(now.owner, called)),
        (_maps(before, called), _maps(now, called)),
        (_holds(before), _holds(now)),
    ]


def _frame_row(rows: _Rows, mfn: int, before: Frame, now: Frame, called: Mapping[int, str]) -> int:
    parts = _parts(before, now, called)
    cells = [hex(mfn), *(new if old == new else f"{old} → {new}" for old, new in parts)]
    name = parts[0][1]
    look = name[3].lower() if now.owner.startswith("vm:") and name[3] in "ABC" else now.owner.partition(":")[0]
    return rows.id(cells, mark="changed" if before != now else "", look="other" if look == "vm" else look)


def _changes(before: State, now: State, called: Mapping[int, str]) -> list[str]:
    """What the step changed, in words: owners, mappings, bytes, who runs, stale entries."""
    found = []
    labels = ("", "mapped by ", "holds ")
    for mfn, frame in now.frames.items():
        moved = _parts(before.frames[mfn], frame, called)
        words = [f"{label}{old} → {new}" for label, (old, new) in zip(labels, moved, strict=True) if old != new]
        if words:
            found.append(f"Frame {mfn:#x}: {', '.join(words)}")
    for core in sorted({*before.cores, *now.cores}):
        old, new = before.cores.get(core), now.cores.get(core)
        if old != new:
            found.append(f"Core {core}: {_runs(old, called)} → {_runs(new, called)}")
    stale = sum(entry.stale for entry in now.tlb) - sum(entry.stale for entry in before.tlb)
    if stale > 0:
        found.append("A TLB entry is now STALE")
    return found


def _runs(who: tuple[int, int] | None, called: Mapping[int, str]) -> str:
    return called.get(who[0], f"VM {who[0]:#x}") if who else "nobody"


def _tlb_rows(rows: _Rows, state: State, called: Mapping[int, str]) -> list[int]:
    """Valid entries; one that both levels hold is one row."""
    levels: dict[tuple[Any, ...], list[str]] = {}
    for entry in state.tlb:
        whose = called.get(entry.handle, f"VM {entry.handle:#x}") if entry.handle is not None else "a VM that is gone"
        page = "address" if entry.guest_virtual else "page"
        number = entry.vpn << 12 if entry.guest_virtual else entry.vpn
        translation = f"{page} {number:#x} → frame {entry.mfn:#x}"
        key = (f"core {entry.core}", whose, translation, entry.perm, entry.stale)
        levels.setdefault(key, []).append(f"L{entry.level}")
    found = []
    for (core, whose, translation, perm, stale), held in levels.items():
        cells = (core, ", ".join(held), whose, translation, perm, "STALE" if stale else "agrees")
        found.append(rows.id(cells, mark="stale" if stale else ""))
    if len(found) > TLB_SHOWN:
        return [*found[:TLB_SHOWN], rows.id((f"{len(found) - TLB_SHOWN} more",))]
    return found


def _cpu_rows(rows: _Rows, state: State, called: Mapping[int, str]) -> list[int]:
    on = {runs: core for core, runs in state.cores.items()}
    found = []
    for (handle, vcpu), registers in state.registers.items():
        place = f"on core {on[handle, vcpu]}" if (handle, vcpu) in on else "saved"
        words = (
            "cannot be run any more"
            if registers is None
            else ", ".join(f"{name}={value:#x}" for name, value in registers.items() if value)
        )
        found.append(rows.id((f"{called[handle]}, vcpu {vcpu}", place, words or "all zero")))
    return found


def step_of(film: Mapping[str, Any], text: str) -> int:
    """The place in `steps` of the step that a link names, of the deciding one if it names none."""
    most = film["total"]
    if text == "":
        number = film["deciding"] or most
    elif not text.isascii() or not text.isdecimal() or len(text) > 5 or int(text) > most:
        raise BadInput([Fault("$.step", f"{text[:64]!r} is no step of this attack; it has steps 0 to {most}")])
    else:
        number = int(text)
    return place_of(film, number)


def place_of(film: Mapping[str, Any], number: int) -> int:
    """The place of a step in the film; of one that is left out, that of the one shown before it."""
    return max((place for place, step in enumerate(film["steps"]) if step["n"] <= number), default=0)


def tables(film: Mapping[str, Any], step: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The rows of a step's tables."""
    return {part: [film["rows"][number] for number in step.get(part, ())] for part in ("frames", "tlb", "cpus")}


# -- two executions side by side


class Divergence(NamedTuple):
    """The first step at which two executions of an attack differ, 0 for none; what was answered, or what was left."""

    answer: int
    answer_says: str
    state: int
    state_says: str

    @property
    def first(self) -> int:
        return min((number for number in (self.answer, self.state) if number), default=0)

    @property
    def in_order(self) -> list[str]:
        """Both in words, the earlier first; what the same step left says no more than its answers."""
        if self.answer and self.answer <= (self.state or self.answer):
            return [self.answer_says]
        return [says for says in (self.state_says, self.answer_says) if says]


@lru_cache(maxsize=128)
def compared(one: Execution, other: Execution) -> tuple[Divergence, tuple[int, ...]]:
    """Where two executions of one attack part, and the steps that both films must show."""
    a, b = summary_of(one), summary_of(other)
    answer, says = 0, ""
    for number, (left, right) in enumerate(zip(a.answers, b.answers, strict=False), 1):
        if left != right:
            answer, says = number, _parted(number, (one.name, *left), (other.name, *right))
            break
    also = tuple(sorted({number for number in (answer, a.step, b.step) if number}))
    state, left_says = _state_parts(film_of(one, also), film_of(other, also))
    return Divergence(answer, says, state, left_says), also


def _parted(number: int, one: tuple[str, str, str], other: tuple[str, str, str]) -> str:
    if one[1] != other[1]:
        return f"Step {number}: {one[0]} answered {one[1]}, {other[0]} answered {other[1]}."
    gave = " and ".join(f"{name} gave {seen or 'nothing'}" for name, _, seen in (one, other))
    return f"Step {number}: both answered {one[1]}, but {gave}."


def _state_parts(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[int, str]:
    """The first step shown by both after which frames, TLB or registers differ, and the first difference in words."""
    theirs = {step["n"]: step for step in other["steps"]}
    for step in one["steps"]:
        twin = theirs.get(step["n"])
        if twin is None:
            continue
        left, right = _facts(one, step), _facts(other, twin)
        for what in sorted(left.keys() & right.keys()):
            if left[what] != right[what]:
                words = f"{what} {left[what]} on {one['name']}, {right[what]} on {other['name']}"
                return step["n"], f"After step {step['n']}: {words}."
    return 0, ""


def _facts(film: Mapping[str, Any], step: Mapping[str, Any]) -> dict[str, str]:
    """What a step left, by what it is of; a change is known by its end."""
    shown = tables(film, step)
    now = [[cell.partition(" → ")[2] or cell for cell in row["cells"]] for row in shown["frames"]]
    facts = {
        f"frame {cells[0]} is {what}": value
        for cells in now
        for what, value in zip(("owned by", "mapped by", "filled with"), cells[1:], strict=True)
    }
    for row in shown["cpus"]:
        facts[f"the registers of {row['cells'][0]} are"] = row["cells"][2]
    entries = [" ".join((*row["cells"][2:4], row["cells"][5])) for row in shown["tlb"] if len(row["cells"]) > 1]
    return {**facts, "the TLB holds": "; ".join(sorted(set(entries))) or "nothing"}


def may_switch_off(check: str) -> bool:
    return check in SKIPPABLE


def shown_elsewhere(films: Collection[Mapping[str, Any]]) -> list[int]:
    """The steps that at least one of the films shows, ascending."""
    return sorted({step["n"] for film in films for step in film["steps"]})
