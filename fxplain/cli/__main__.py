"""``python -m fxplain.cli``."""

from fxplain.cli import main

if __name__ == "__main__":
    main()
