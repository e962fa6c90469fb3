"""``python -m avfake``: the command line."""

from avfake.cli import main

if __name__ == "__main__":
    main()
