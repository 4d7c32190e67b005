"""`vpms`: check, negotiate, verify, solve, fleet, explain and schema without web framework, database or network.

One JSON document on standard output and nothing else (`explain`: plain text). Exit 0: fine; 1: conflict, no agreement
or not valid; 2: bad input, with empty output and one line for each fault on standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NoReturn

from webapp import strictjson
from webapp.errors import MAX_FAULTS, BadInput, Fault
from webapp.vpms import documents
from webapp.vpms.documents import Host, Policy
from webapp.vpms.formats import KEY, OPERATOR
from webapp.vpms.instance import Limits, read_instance, rounded, solve
from webapp.vpms.shapes import ById, Time

GOOD = ("no_static_conflict_now", "possible_when_running")


class _Refused(Exception):
    """Bad input or usage: the lines that standard error gets."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__()
        self.lines = lines


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _Refused([f"vpms: {message}"])


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code. Never a stack trace for anything that a file or an argument can hold."""
    try:
        options = _parser().parse_args(arguments)
        command: Callable[[argparse.Namespace], tuple[Any, int]] = options.run
        result, code = command(options)
    except _Refused as refused:
        print("\n".join(refused.lines), file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 2
    if not isinstance(result, str):
        result = json.dumps(result, ensure_ascii=False, sort_keys=True, allow_nan=False) + "\n"
    sys.stdout.buffer.write(result.encode())
    sys.stdout.flush()
    return code


OVERVIEW: Final = """\
Preferences of virtual machines, their conflicts, and settlements that all can accept.

exit codes: 0 fine, 1 conflict, no agreement or not valid, 2 bad input (named on standard error)
example:    vpms check a-db.json b-web.json --host h1.json
"""
COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "check": (
        "Which conflicts these policies have on this host, each with its reason.",
        "vpms check a-db.json b-web.json --host h1.json --trigger create\n"
        "vpms check a-db.json b-web.json --host h1.json --event reclaim.json",
    ),
    "negotiate": (
        "The best settlement that all can accept, or why there is none and what can still be done.",
        "vpms negotiate a-db.json b-web.json --host h1.json --now 2026-03-02T12:00:00Z\n"
        "vpms negotiate a-db.json b-web.json --host h1.json --keys keys/ --out agreement.json",
    ),
    "verify": (
        "Whether a signed agreement or an audit log is what it claims to be.",
        "vpms verify agreement.json --keys keys.json --policy a-db.json\nvpms verify audit.jsonl --head 5f3c...",
    ),
    "solve": (
        "The bare problem of issues, parties and integers.",
        "vpms solve instance.json --time-limit 5",
    ),
    "fleet": (
        "Conflicts of thousands of hosts at once, and which of them could take one VM more.",
        "vpms fleet fleet.json --admit 3",
    ),
    "explain": (
        "A result of check or negotiate, a negotiation's record or an audit log in plain sentences.",
        "vpms check a-db.json b-web.json --host h1.json | vpms explain -\nvpms explain audit.jsonl",
    ),
    "schema": (
        "The JSON Schema of a document; without a name, all of them.",
        "vpms schema policy > policy.schema.json",
    ),
}


def _parser() -> _Parser:
    plain = argparse.RawDescriptionHelpFormatter
    parser = _Parser(prog="vpms", description=OVERVIEW, formatter_class=plain, allow_abbrev=False)
    commands = parser.add_subparsers(  # with `prog` said, argparse loads nothing to find it out
        prog="vpms", dest="command", required=True, parser_class=_Parser, metavar="command"
    )
    common = _Parser(add_help=False)
    common.add_argument("--now", metavar="TIME", help="the time that decides every question (default: clock)")
    common.add_argument("--time-limit", type=float, default=10.0, metavar="S", help="seconds for the solver, 1 to 600")
    population = _Parser(add_help=False)
    population.add_argument("policies", nargs="+", metavar="POLICY", help="1 to 64 policies, in any order")
    population.add_argument("--host", required=True, metavar="HOST", help="the host and its operator's terms")

    def command(name: str, run: Callable[[argparse.Namespace], tuple[Any, int]], *parents: _Parser) -> _Parser:
        words, example = COMMANDS[name]
        shown = "example:\n" + "\n".join(f"  {line}" for line in example.splitlines())
        sub = commands.add_parser(
            name, parents=parents, help=words, description=words, epilog=shown, formatter_class=plain,
            allow_abbrev=False,
        )  # fmt: skip
        sub.set_defaults(run=run)
        return sub

    check = command("check", _check, common, population)
    check.add_argument("--trigger", choices=["create", "start", "run"], default="start", help="default: start")
    check.add_argument("--event", metavar="FILE", help="decide this event too; implies run")

    negotiate = command("negotiate", _negotiate, common, population)
    negotiate.add_argument("--keys", metavar="DIR", help="private seeds <party>.ed25519, 64 hex digits each")
    negotiate.add_argument("--out", metavar="FILE", help="where the signed agreement goes")

    verify = command("verify", _verify, common)
    verify.add_argument("file", metavar="FILE", help="an envelope or an audit log")
    verify.add_argument("--keys", metavar="KEYS.json", help="{party: base64 public key}")
    verify.add_argument("--policy", action="append", default=[], metavar="POLICY", help="must be as it was signed")
    verify.add_argument("--head", metavar="HEX", help="the hash that the log is known to end with")

    command("solve", _solve, common).add_argument("instance", metavar="INSTANCE")
    fleet = command("fleet", _fleet, common)
    fleet.add_argument("fleet", metavar="FLEET", help="hosts and the templates of their VMs")
    fleet.add_argument("--admit", type=int, metavar="N", help="also: which hosts could take a VM of template N")
    command("explain", _explain).add_argument("file", metavar="FILE", help="- for standard input")
    command("schema", _schema).add_argument("kind", metavar="NAME", nargs="?", choices=list(documents.SCHEMAS))
    return parser


def _bytes(name: str) -> bytes:
    try:
        with open(name, "rb") as file:
            return file.read()
    except OSError as error:
        raise _Refused([f"vpms: {name}: $: cannot be read ({error.strerror})"]) from None


def _lines(name: str, refused: BadInput) -> list[str]:
    return [f"vpms: {name}: {fault.path}: {fault.reason}" for fault in refused.faults]


def _read_all(readers: Sequence[tuple[str, Callable[[bytes], Any]]]) -> list[Any]:
    """Every file, understood; or all faults of all files, each with its file's name."""
    found, lines = [], []
    for name, read in readers:
        try:
            found.append(read(_bytes(name)))
        except BadInput as refused:
            lines += _lines(name, refused)
        except _Refused as unreadable:
            lines += unreadable.lines
    if lines:
        raise _Refused(lines[:MAX_FAULTS])
    return found


def _now(options: argparse.Namespace) -> str:
    if options.now is None:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    faults: list[Fault] = []
    Time().check(options.now, "--now", faults)
    if faults:
        raise _Refused([f"vpms: --now {faults[0].reason}"])
    return str(options.now)


def _limits(options: argparse.Namespace) -> Limits:
    if not 1 <= options.time_limit <= 600:
        raise _Refused(["vpms: --time-limit must lie between 1 and 600"])
    return Limits(options.time_limit)


def _population(options: argparse.Namespace, event: str | None = None) -> tuple[list[Policy], Host, Any]:
    """Policies, host and event, fit for each other: 1 to 64 different VMs, and each running or named VM among them."""
    if len(options.policies) > 64:
        raise _Refused(["vpms: at most 64 policies can be given"])
    readers: list[tuple[str, Callable[[bytes], Any]]] = [(name, documents.read_policy) for name in options.policies]
    readers += [(options.host, documents.read_host)] + ([] if event is None else [(event, documents.read_event)])
    read = _read_all(readers)
    policies, host, happening = read[: len(options.policies)], read[len(options.policies)], read[-1] if event else None
    lines, seen = [], set()
    for name, policy in zip(options.policies, policies, strict=True):
        if policy.vm in seen:
            lines.append(f"vpms: {name}: $.vm: {policy.vm} is also the VM of another file")
        seen.add(policy.vm)
    for index, vm in enumerate(host.document.get("running", ())):
        if vm not in seen:
            lines.append(f"vpms: {options.host}: $.running[{index}]: the policy of {vm} is not given")
    for field in ("vm", "other"):
        if happening and happening.get(field, next(iter(seen))) not in seen:
            lines.append(f"vpms: {event}: $.{field}: is not the VM of a given policy")
    if lines:
        raise _Refused(lines[:MAX_FAULTS])
    return policies, host, happening


def _check(options: argparse.Namespace) -> tuple[Any, int]:
    now, limits = _now(options), _limits(options)
    policies, host, event = _population(options, options.event)
    if event is None:
        from webapp.vpms.conflicts import check

        result = check(policies, host, now=now, trigger=options.trigger, limits=limits)
        return result, 0 if result["status"] in GOOD else 1
    from webapp.vpms.enforcement import check_event

    result = check_event(policies, host, event, now=now, limits=limits)
    return result, 0 if result["status"] in GOOD and result["event"]["decision"] == "allow" else 1


def _negotiate(options: argparse.Namespace) -> tuple[Any, int]:
    from webapp.vpms.negotiation import negotiate

    now, limits = _now(options), _limits(options)
    if (options.keys is None) != (options.out is None):
        raise _Refused(["vpms: --keys and --out belong together"])
    policies, host, _ = _population(options)
    seeds = None if options.keys is None else {p: _seed(options.keys, p) for p in [*(q.vm for q in policies), OPERATOR]}
    result = negotiate(policies, host, now, limits)
    if seeds is not None and result["status"] == "agreed":
        _write_envelope(options.out, result, policies, host, seeds, now)
    return result, 0 if result["status"] == "agreed" else 1


def _seed(directory: str, party: str) -> bytes:
    name = os.path.normpath(os.path.join(directory, f"{party}.ed25519"))
    text = _bytes(name).strip()
    if not re.fullmatch(rb"[0-9a-fA-F]{64}", text):
        raise _Refused([f"vpms: {name}: $: must be 64 hex digits"])
    return bytes.fromhex(text.decode())


def _write_envelope(
    name: str, result: Mapping[str, Any], policies: list[Policy], host: Host, seeds: Mapping[str, bytes], now: str
) -> None:
    """The signed agreement. A host's agreement goes on under its id; its digest is not in the host document."""
    from webapp.vpms import agreement

    before = host.agreement
    terms = agreement.statement(
        assignment=result["assignment"],
        certificate=result["certificate"],
        policies=policies,
        host=host,
        keys={party: agreement.public_key(seed) for party, seed in seeds.items()},
        agreement=before["agreement"] if before else host.host,
        version=before["version"] + 1 if before else 1,
        previous=None,
        not_before=now,
    )
    payload = agreement.payload_of(terms)
    signed = agreement.envelope(payload, [agreement.sign(payload, seed) for seed in seeds.values()])
    try:
        with open(name, "wb") as file:
            file.write(strictjson.canonical(signed) + b"\n")
    except OSError as error:
        raise _Refused([f"vpms: {name}: $: cannot be written ({error.strerror})"]) from None


def _keys(data: bytes) -> dict[str, str]:
    given = strictjson.load(data)
    faults: list[Fault] = []
    ById(KEY).check(given, "$", faults)
    if faults:
        raise BadInput(faults)
    return dict(given)


def _verify(options: argparse.Namespace) -> tuple[Any, int]:
    from webapp.vpms import agreement, auditlog

    now = _now(options)
    head = None if options.head is None else options.head.lower()
    if head is not None and not re.fullmatch("[0-9a-f]{64}", head):
        raise _Refused(["vpms: --head must be 64 hex digits"])
    keys = None if options.keys is None else _read_all([(options.keys, _keys)])[0]
    policies = _read_all([(name, documents.read_policy) for name in options.policy])

    def verdict(data: bytes) -> dict[str, Any]:
        if auditlog.looks_like_log(data):
            return auditlog.verify_log(data, head=head, keys=keys)
        return agreement.verify(data, now=now, keys=keys, policies=policies)

    [result] = _read_all([(options.file, verdict)])
    return result, 0 if result["valid"] else 1


def _explain(options: argparse.Namespace) -> tuple[Any, int]:
    from webapp.vpms.explain import explain

    if options.file == "-":
        try:
            return explain(sys.stdin.buffer.read()), 0
        except BadInput as refused:
            raise _Refused(_lines("-", refused)) from None
    [text] = _read_all([(options.file, explain)])
    return text, 0


def _schema(options: argparse.Namespace) -> tuple[Any, int]:
    if options.kind is None:
        return {kind: documents.json_schema(kind) for kind in documents.SCHEMAS}, 0
    return documents.json_schema(options.kind), 0


def _solve(options: argparse.Namespace) -> tuple[Any, int]:
    limits = _limits(options)
    [instance] = _read_all([(options.instance, read_instance)])
    before = time.perf_counter()
    found = solve(instance, limits)
    elapsed = (time.perf_counter() - before) * 1000
    result = {
        "status": found.status,
        "assignment": None if found.assignment is None else list(found.assignment),
        "utilities": list(found.utilities),
        "ideals": list(found.ideals),
        "gains": [rounded(gain) for gain in found.gains],
        "gains_exact": [f"{gain.numerator}/{gain.denominator}" for gain in found.gains],
        "min_gain": None if found.min_gain is None else rounded(found.min_gain),
        "nash": None if found.nash is None else rounded(found.nash),
        "bound": found.bound,
        "elapsed_ms": round(elapsed, 3),
    }
    return result, 0 if found.status == "agreed" else 1


def _fleet(options: argparse.Namespace) -> tuple[Any, int]:
    from webapp.vpms.fleet import read_fleet, report

    [fleet] = _read_all([(options.fleet, read_fleet)])
    try:
        result = report(fleet, options.admit)
    except IndexError:
        raise _Refused([f"vpms: --admit must name one of {len(fleet.templates)} templates, from 0"]) from None
    return result, 1 if result["flagged"] else 0


if __name__ == "__main__":
    sys.exit(main())
