"""The reference of the policy document, written out of its schema and the vocabulary.

`python -m webapp.vpms.reference > docs/policy-reference.md` makes the committed page anew; a test compares the two.
"""

# ruff: noqa: E501 - rows of tables: one row, one line

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from webapp.vpms.documents import json_schema
from webapp.vpms.enforcement import gate_switches
from webapp.vpms.vocabulary import FACTS, PROFILES, QUESTIONS, RESOURCES, SWITCHES, Switch

SCOPES: Final = {
    "V": "the VM's own",
    "H": "one value for the whole host",
    "P": "one value for the whole host, it concerns neighbours",
    "O": "what the operator may do",
}
MACHINE: Final = ("memory_protection", "mitigations", "overcommit", "hugepages", "swap", "cpu_pinning", "audit_level")
"""Switches whose values the simulated machine is given when a run begins (enforcement.scenario_options)."""
MEANING: Final = {
    "format": "the version of this format",
    "vm": "the VM that the wishes are for",
    "tenant": "the tenant that it belongs to",
    "version": "rises with every change",
    "size": "what the VM needs of the host",
    "switches": "the wishes: for each switch a weight and a score for every one of its values",
    "disagreement": "what happens without agreement, and what that is worth",
    "delegate": "who answers proposals",
    "trustClass": 'under `same_class` all neighbours have the same one; without it `"default"`',
    "labels": "what must not run beside it, and what it is itself",
    "rules": "if one switch has one of these values, another must have one of those",
    "maintenance": "minutes of the week (UTC) in which the host may do maintenance; without it any time",
    "validity": "from when and until when the wishes hold; without it always",
    "size.vcpus": "virtual processors",
    "size.memory_mib": "memory in MiB",
    "size.cache_ways": "ways of the cache, where `cache_partition` is `exclusive`; without it 1",
    "size.bandwidth_pct": "share of memory bandwidth in percent, where `mem_bandwidth` is `reserved`; without it 10",
    "disagreement.kind": "what is tried first; words only, nobody is forced by it",
    "disagreement.utility": "the least that a settlement must be worth to be accepted",
    "disagreement.budget": "what the owner would pay for another place; without it 0",
    "delegate.mode": "accept what is worth enough, the same with a floor of one's own, or always ask a person",
    "delegate.floor": "the least that a delegate accepts; required by `auto-within-bounds` and `accept-if-above-floor`",
    "delegate.deadline_s": "seconds until no answer counts; without it 86,400",
    "delegate.onTimeout": "what no answer counts as; without it `reject`",
    "labels.conflictClass": "competitors: two VMs of one class and of different tenants do not share a host",
    "labels.exhibits": "what this VM is or brings with it",
    "labels.refuses": "what no neighbour may exhibit",
    "validity.notBefore": "the wishes hold from here on",
    "validity.notAfter": "the wishes hold until here",
}


def shape(schema: Mapping[str, Any]) -> str:
    """A schema in a few words."""
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "anyOf" in schema or "oneOf" in schema:
        return " or ".join(shape(part) for part in schema.get("anyOf") or schema["oneOf"])
    if schema.get("type") == "integer":
        return f"{schema['minimum']:,} to {schema['maximum']:,}"
    if schema.get("type") == "array":
        exact = "" if schema.get("minItems") == schema["maxItems"] else "at most "
        return f"{exact}{schema['maxItems']} of: {shape(schema['items'])}"
    if schema.get("type") == "null":
        return "`null`"
    if schema.get("type") == "object":
        return "an object"
    return (
        "a time such as `2026-11-28T00:00:00Z`"
        if "T" in schema.get("pattern", "")
        else "an id: a-z, 0-9, `.` `_` `-`, at most 63"
    )


def fields(schema: Mapping[str, Any], under: str = "") -> Iterator[str]:
    """One row for each member, in the order of the schema; what is inside an object follows it."""
    for name, member in schema["properties"].items():
        required = "yes" if name in schema.get("required", ()) else "no"
        yield f"| `{under}{name}` | {shape(member)} | {required} | {MEANING[under + name]} |"
        if member.get("type") == "object" and name != "switches":
            yield from fields(member, f"{under}{name}.")


def kept_by(switch: Switch) -> str:
    """Who keeps a value that is in force, in the simulated machine."""
    if switch.declared_only:
        return "**Recorded only**: the simulated machine has nothing like it, so it is never shown as enforced."
    events = gate_switches().get(switch.name, ())
    parts = []
    if switch.name in MACHINE:
        parts.append("the machine is run with it")
    if events:
        parts.append("the gate asks it before " + ", ".join(f"`{event}`" for event in events))
    lacking = (
        " Not so `snp_tdx` and `sev`: the simulated machine has no encrypted memory."
        if switch.name == "memory_protection"
        else ""
    )
    return "Enforced: " + ("; ".join(parts) if parts else "when VMs are placed and started") + "." + lacking


def section(switch: Switch) -> Iterator[str]:
    yield f"### `{switch.name}`: {switch.label}"
    yield ""
    yield f"{switch.help} Scope {switch.scope}: {SCOPES[switch.scope]}. Question {switch.question[1:]}. {kept_by(switch)}"
    yield ""
    yield "| value, strict to lax | label | what it means for the owner | takes |"
    yield "|---|---|---|---|"
    for value in switch.values:
        taken = ", ".join(
            f"`{each.capacity}`" for each in RESOURCES if each.switch == switch.name and value.name in each.values
        )
        yield f"| `{value.name}` | {value.label} | {value.consequence} | {taken} |"
    yield ""


def questions() -> Iterator[str]:
    for question in QUESTIONS.values():
        yield f"**{question.name[1:]}. {question.text}** {question.help}"
        yield ""
        for at, answer in enumerate(question.answers):
            sets = ", ".join(f"`{s.name}` {s.answers[at]}" for s in SWITCHES.values() if s.question == question.name)
            yield f"- {answer.label}: {answer.consequence} Stands for {sets}."
        yield ""


def facts() -> Iterator[str]:
    yield "| fact | if | is one of | then | must be one of | source |"
    yield "|---|---|---|---|---|---|"
    for fact in FACTS:
        source = "published" if fact.published else "a choice of this model"
        yield f"| {fact.name} | `{fact.switch}` | {_names(fact.switch, fact.values)} | `{fact.then_switch}` | {_names(fact.then_switch, fact.then_values)} | {source} |"


def _names(switch: str, values: frozenset[str]) -> str:
    return ", ".join(f"`{name}`" for name in SWITCHES[switch].names if name in values)


def reference() -> str:
    """The whole page."""
    schema = json_schema("policy")
    wish = next(iter(schema["properties"]["switches"]["properties"].values()))
    lines: Sequence[str] = [
        "# The policy document",
        "",
        "Made by `python -m webapp.vpms.reference` from the schema (`vpms schema policy`, `/api/schemas/policy.json`) and the",
        "vocabulary; not edited by hand. A policy says what one VM needs. The form, JSON, YAML and the API write the same document.",
        "",
        "## Members",
        "",
        f"Beside the shapes: {schema['$comment']}. Members that are not named here are refused.",
        "",
        "| member | shape | required | meaning |",
        "|---|---|---|---|",
        *fields(schema),
        "",
        "Inside `switches`, each switch that you care about has these members. A switch that is not mentioned has weight 0 and no veto.",
        "",
        "| member | shape | required |",
        "|---|---|---|",
        f"| `weight` | {shape(wish['properties']['weight'])}; the weights of a document sum to 1000 | yes |",
        '| `values` | every value of the switch: 0 to 1,000, or `"veto"`, which is never traded, priced or outvoted | yes |',
        f"| `approval` | {shape(wish['properties']['approval'])}; `human`: a person is asked when another than the best value is proposed | no |",
        "",
        "## The eight questions",
        "",
        *questions(),
        "## Profiles",
        "",
        *(f"- **{profile.label}**: {profile.help}" for profile in PROFILES),
        "",
        "## The 24 switches",
        "",
        *(line for switch in SWITCHES.values() for line in section(switch)),
        "## What the platform's parts imply",
        "",
        *facts(),
    ]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    print(reference(), end="")
