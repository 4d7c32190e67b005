"""The solver: exact branch and bound, compiled. It knows issues, values and integers, and nothing of policies."""

from webapp.solver.search import solve

__all__ = ["solve"]
