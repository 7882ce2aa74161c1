"""``python -m eventsnn`` and the program ``eventsnn``: the command line, with Ctrl-C while it is being imported."""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line and exit as :func:`eventsnn.cli.main`; 130 when interrupted, at whatever moment."""
    try:
        from eventsnn import cli

        cli.main()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
