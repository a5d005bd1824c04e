#!/usr/bin/env python
"""Django's command line for nodeadmin."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "nodeadmin.settings.local")
    if sys.argv[1:2] == ["migrate"]:  # a large table may take as long as it needs
        os.environ.setdefault("NODEADMIN_DATABASE_STATEMENT_S", "0")
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line(sys.argv)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output (head, less) has enough; the interpreter would flush again, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
