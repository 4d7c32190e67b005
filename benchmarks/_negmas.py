"""NegMAS negotiators on the solver's problem. Runs by itself in an environment of its own (requirements-negmas.lock).

Standard input: {"issues": [sizes], "parties": [{"d", "u"}], "negotiators": [names], "seconds": n}. Standard output: one
JSON object, for each negotiator the agreed values or null, and the seconds that it took.
"""

from __future__ import annotations

import json
import random
import sys
import time
import warnings
from typing import Any


def negotiate(problem: dict[str, Any], name: str) -> dict[str, Any]:
    from negmas import sao
    from negmas.outcomes import make_issue, make_os
    from negmas.preferences import LinearAdditiveUtilityFunction
    from negmas.preferences.value_fun import TableFun

    kinds = {"MiCRO": sao.MiCRONegotiator, "Boulware": sao.BoulwareTBNegotiator}
    issues = [make_issue(list(range(size)), f"i{n}") for n, size in enumerate(problem["issues"])]
    mechanism = sao.SAOMechanism(
        outcome_space=make_os(issues), n_steps=20_000 if name == "MiCRO" else None, time_limit=problem["seconds"]
    )
    for number, party in enumerate(problem["parties"]):
        most = sum(max(row) for row in party["u"])
        preferences = LinearAdditiveUtilityFunction(
            values=[TableFun({v: points / most for v, points in enumerate(row)}) for row in party["u"]],
            issues=issues,
            reserved_value=party["d"] / most,
        )
        mechanism.add(kinds[name](name=f"p{number}", ufun=preferences))
    begun = time.perf_counter()
    agreement = mechanism.run().agreement
    seconds = time.perf_counter() - begun
    return {"agreement": None if agreement is None else list(agreement), "seconds": seconds}


def main() -> int:
    warnings.simplefilter("ignore")
    random.seed(1)
    problem = json.load(sys.stdin)
    answer = {name: negotiate(problem, name) for name in problem["negotiators"]}
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
