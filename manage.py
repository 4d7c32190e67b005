#!/usr/bin/env python
"""Django's command line for the VPMS site."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as refused:  # in sentences that name the variables; a traceback would hide them
        sys.exit(f"settings: {refused}")


if __name__ == "__main__":
    main()
