"""`make bench`: every benchmark in turn, one JSON object a line. `python -m benchmarks NAME...` runs only those."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> int:
    names = sys.argv[1:] or sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))
    failed = 0
    for name in names:
        failed |= subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], cwd=HERE.parent).returncode
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
