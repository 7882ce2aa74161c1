"""``python -m eventsnn``: the command line."""

from eventsnn.cli import main

if __name__ == "__main__":
    main()
