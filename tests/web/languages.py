"""Languages for tests: the German catalogue as it stands in the sources, compiled for the test alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from babel.messages import Catalog
from babel.messages.mofile import write_mo


def offer(settings: Any, directory: Path, code: str, name: str, catalog: Catalog) -> None:
    """The site speaks English and this one language."""
    path = directory / code / "LC_MESSAGES" / "django.mo"
    path.parent.mkdir(parents=True)
    with path.open("wb") as out:
        write_mo(out, catalog)
    settings.LOCALE_PATHS = [directory]
    settings.LANGUAGES = [("en", "English"), (code, name)]
