from typing import TypedDict

class Result(TypedDict):
    status: str
    assignment: list[int] | None
    ideals: list[int] | None
    proven: bool
    stage: int
    min_gain_upper: float | None
    nash_upper: float | None
    nodes: int
    multipliers: list[int] | None

def solve(
    *,
    sizes: bytes,
    weights: bytes,
    reserve: bytes,
    forbidden: bytes,
    facts: bytes,
    capacity: bytes,
    use: bytes,
    only_feasible: bool = False,
    time_limit: float = 10.0,
    node_limit: int = 0,
) -> Result: ...
