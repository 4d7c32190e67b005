"""The names of an attack file: what is bound where, of which kind, and what the attacker must not be handed.

The victim's secret and the results of its operations are its own: an attacking step cannot name them, so what the
attacker shows at the end can only have come through its port. Of an operation in the victim's turn the attacker gets
what the hardware hands to a hypervisor at an exit, and no more.
"""

import re
from dataclasses import dataclass

from hsvm_engine.operations import HEX, INT, OPERATIONS, REGISTERS, WORD

TEXT = "text"
TURN = "turn"  # the phase of the victim's own steps in the middle of the attack
_HEX = re.compile(r"(?:[0-9a-f]{2})+")


@dataclass(frozen=True)
class Binding:
    """One name: its fields with their kinds (`""` is the plain value of a `let`), and whether they are the victim's."""

    fields: dict[str, str]
    op: str = "let"
    victims: bool = False
    text: str | None = None


SECRET = Binding({"": HEX, "low": INT, "high": INT, "page": INT}, "secret", victims=True)
EXIT = Binding({"status": WORD, "gpn": INT}, "exit")


class Scope:
    """The names bound so far, in the order of execution."""

    def __init__(self) -> None:
        self.names: dict[str, Binding] = {"secret": SECRET}

    def is_vm(self, name: str) -> bool:
        return name in self.names and self.names[name].op == "create_vm"

    def kind(self, name: str, field: str | None) -> str:
        """The kind of `$name.field`, of `$name` if it has no field."""
        fields = self.names[name].fields
        return fields[field] if field is not None else next(iter(fields.values()))

    def bind_result(self, name: str, op: str, phase: str) -> str | None:
        """Bind an operation's result; the reason if that is not allowed."""
        if name == "secret":
            return "secret is predefined"
        if name in ("victim", "attacker") and op != "create_vm":
            return f"{name} is the handle of a VM: only create_vm binds it"
        if name == "victim" and phase != "setup":
            return "victim is bound by the setup"
        if phase == TURN:
            self.names[name] = EXIT
            return None
        known = OPERATIONS[op]
        if not known.results:
            return f"{op} has no result to bind"
        holds_bytes = any(kind in (HEX, REGISTERS) for kind in known.results.values())
        own = phase != "attacker" and (known.port == "guest" or (phase == "victim" and holds_bytes))
        self.names[name] = Binding(known.results, op, victims=own)
        return None

    def bind_let(self, name: str, value: object, phase: str) -> str | None:
        if name in ("secret", "victim", "attacker"):
            return f"{name} cannot be set by let"
        if isinstance(value, int):
            self.names[name] = Binding({"": INT})
        elif isinstance(value, str):
            self.names[name] = Binding({"": TEXT}, text=value)
        else:
            source = self.names[value.name]  # type: ignore[attr-defined]
            kind = self.kind(value.name, value.field)  # type: ignore[attr-defined]
            if source is SECRET:
                return "the secret cannot be given another name"
            self.names[name] = Binding({"": kind}, victims=source.victims, text=source.text)
        return None

    def refusal(self, name: str, field: str | None, kind: str | None, phase: str) -> str | None:
        """Why `$name.field` cannot stand where a `kind` is wanted, or None."""
        binding = self.names.get(name)
        if binding is None:
            return f"${name} is not bound before this step"
        if field is not None and field not in binding.fields:
            return f"{binding.op} has no field {field}"
        if field is None and "" not in binding.fields and len(binding.fields) != 1:
            return f"${name} has the fields {', '.join(sorted(binding.fields))}: name one"
        found = self.kind(name, field)
        if phase == "attacker" and binding.victims:
            return f"${name} is the victim's: an attacking step cannot name it"
        return None if kind is None else _mismatch(name, found, kind, binding.text)


def _mismatch(name: str, found: str, kind: str, text: str | None) -> str | None:
    if found == TEXT and kind in (HEX, WORD):
        fits = kind == WORD or (text is not None and _HEX.fullmatch(text) is not None)
        return None if fits else f"${name} is not bytes in lower-case hex"
    return None if found == kind else f"${name} is {found}, {kind} is wanted"
