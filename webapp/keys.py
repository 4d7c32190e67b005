"""`python -m webapp.keys DIRECTORY`: makes the two keys of a site, once. Every machine of the site gets the same two.

Only the standard library: it is called before there are settings that Django would take.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import Final

SIZES: Final = {"secret.key": 48, "seal.key": 32}  # bytes; the first signs sessions, the second seals what is stored


def make(directory: Path) -> list[Path]:
    """The keys that were made; those that exist stay as they are, since what they sealed opens with nothing else."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = []
    for name, size in SIZES.items():
        path = directory / name
        if not path.exists():
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
                handle.write(secrets.token_bytes(size))
            made.append(path)
    return made


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print("usage: python -m webapp.keys DIRECTORY", file=sys.stderr)
        return 2
    directory = Path(sys.argv[1])
    made = make(directory)
    for name in SIZES:
        print(f"{directory / name} {'made' if directory / name in made else 'was there and stays'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
