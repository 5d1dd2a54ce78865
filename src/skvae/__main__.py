"""``python -m skvae`` is the command ``skvae``."""

from skvae.cli import main

if __name__ == "__main__":
    main()
