"""Which batch loop runs traces. They differ in speed only; environment variable HSVM_BATCH_LOOP names another."""

def batch_loops() -> list[str]:
    """Names of the batch loops that this processor can run, the best first."""

def use_batch_loop(name: str) -> str | None:
    """Run traces by this loop from now on, in the whole process; returns the name of the one before. ValueError."""
