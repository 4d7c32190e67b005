"""`vpms`: check, negotiate, verify, solve and schema without web framework, database or network.

One JSON document on standard output and nothing else. Exit 0: fine; 1: conflict, no agreement or not valid; 2: bad
input, with empty output and one line for each fault on standard error.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

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
    text = json.dumps(result, ensure_ascii=False, sort_keys=True, allow_nan=False)
    sys.stdout.buffer.write(text.encode() + b"\n")
    sys.stdout.flush()
    return code


def _parser() -> _Parser:
    parser = _Parser(prog="vpms", description="Preferences, conflicts, negotiation and agreements of VMs.")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    common = _Parser(add_help=False)
    common.add_argument("--now", metavar="TIME", help="the time that decides every question (default: clock)")
    common.add_argument("--time-limit", type=float, default=10.0, metavar="S", help="seconds for the solver, 1 to 600")

    check = commands.add_parser("check", parents=[common], help="which conflicts these policies have on this host")
    check.add_argument("policies", nargs="+", metavar="POLICY")
    check.add_argument("--host", required=True)
    check.add_argument("--trigger", choices=["create", "start", "run"], default="start")
    check.add_argument("--event", metavar="FILE")
    check.set_defaults(run=_check)

    negotiate = commands.add_parser("negotiate", parents=[common], help="the best settlement that all can accept")
    negotiate.add_argument("policies", nargs="+", metavar="POLICY")
    negotiate.add_argument("--host", required=True)
    negotiate.add_argument("--keys", metavar="DIR")
    negotiate.add_argument("--out", metavar="FILE")
    negotiate.set_defaults(run=_negotiate)

    verify = commands.add_parser("verify", parents=[common], help="an envelope or an audit log")
    verify.add_argument("file", metavar="FILE")
    verify.add_argument("--keys", metavar="KEYS.json")
    verify.add_argument("--policy", action="append", default=[], metavar="POLICY")
    verify.add_argument("--head", metavar="HEX")
    verify.set_defaults(run=_verify)

    bare = commands.add_parser("solve", parents=[common], help="the bare problem")
    bare.add_argument("instance", metavar="INSTANCE")
    bare.set_defaults(run=_solve)

    schema = commands.add_parser("schema", help="the JSON Schema of a document")
    schema.add_argument("kind", choices=["policy", "host", "agreement"])
    schema.set_defaults(run=lambda options: (documents.json_schema(options.kind), 0))
    return parser


def _bytes(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise _Refused([f"vpms: {name}: $: cannot be read ({error.strerror})"]) from None


def _lines(name: str, refused: BadInput) -> list[str]:
    return [f"vpms: {name}: {fault.path}: {fault.reason}" for fault in refused.faults]


def _read_all(readers: Sequence[tuple[str, Callable[[bytes], Any]]]) -> list[Any]:
    """Every file, understood; or all faults of all files, each with its file's name."""
    found, lines = [], []
    for name, read in readers:
        data = _bytes(name)
        try:
            found.append(read(data))
        except BadInput as refused:
            lines += _lines(name, refused)
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


def _population(options: argparse.Namespace) -> tuple[list[Policy], Host]:
    """The policies and the host, fit for each other: 1 to 64 different VMs, and each running VM among them."""
    if len(options.policies) > 64:
        raise _Refused(["vpms: at most 64 policies can be given"])
    readers: list[tuple[str, Callable[[bytes], Any]]] = [(name, documents.read_policy) for name in options.policies]
    *policies, host = _read_all([*readers, (options.host, documents.read_host)])
    lines, seen = [], set()
    for name, policy in zip(options.policies, policies, strict=True):
        if policy.vm in seen:
            lines.append(f"vpms: {name}: $.vm: {policy.vm} is also the VM of another file")
        seen.add(policy.vm)
    for index, vm in enumerate(host.document.get("running", ())):
        if vm not in seen:
            lines.append(f"vpms: {options.host}: $.running[{index}]: the policy of {vm} is not given")
    if lines:
        raise _Refused(lines[:MAX_FAULTS])
    return policies, host


def _check(options: argparse.Namespace) -> tuple[Any, int]:
    now, limits = _now(options), _limits(options)
    policies, host = _population(options)
    if options.event is None:
        from webapp.vpms.conflicts import check

        result = check(policies, host, now=now, trigger=options.trigger, limits=limits)
        return result, 0 if result["status"] in GOOD else 1
    from webapp.vpms.enforcement import check_event

    [event] = _read_all([(options.event, documents.read_event)])
    try:
        result = check_event(policies, host, event, now=now, limits=limits)
    except BadInput as refused:
        raise _Refused(_lines(options.event, refused)) from None
    return result, 0 if result["status"] in GOOD and result["event"]["decision"] == "allow" else 1


def _negotiate(options: argparse.Namespace) -> tuple[Any, int]:
    from webapp.vpms.negotiation import negotiate

    now, limits = _now(options), _limits(options)
    if (options.keys is None) != (options.out is None):
        raise _Refused(["vpms: --keys and --out belong together"])
    policies, host = _population(options)
    seeds = None if options.keys is None else {p: _seed(options.keys, p) for p in [*(q.vm for q in policies), OPERATOR]}
    result = negotiate(policies, host, now, limits)
    if seeds is not None and result["status"] == "agreed":
        _write_envelope(options.out, result, policies, host, seeds, now)
    return result, 0 if result["status"] == "agreed" else 1


def _seed(directory: str, party: str) -> bytes:
    name = str(Path(directory) / f"{party}.ed25519")
    text = _bytes(name).strip()
    if not re.fullmatch(rb"[0-9a-f]{64}", text):
        raise _Refused([f"vpms: {name}: $: must be 64 lower-case hex digits"])
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
        Path(name).write_bytes(strictjson.canonical(signed) + b"\n")
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
    if options.head is not None and not re.fullmatch("[0-9a-f]{64}", options.head):
        raise _Refused(["vpms: --head must be 64 lower-case hex digits"])
    keys = None if options.keys is None else _read_all([(options.keys, _keys)])[0]
    policies = _read_all([(name, documents.read_policy) for name in options.policy])

    def verdict(data: bytes) -> dict[str, Any]:
        if auditlog.looks_like_log(data):
            return auditlog.verify_log(data, head=options.head, keys=keys)
        return agreement.verify(data, now=now, keys=keys, policies=policies)

    [result] = _read_all([(options.file, verdict)])
    return result, 0 if result["valid"] else 1


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


if __name__ == "__main__":
    sys.exit(main())
