"""``python -m fxplain`` is the command ``fxplain``."""

from fxplain.cli import main

if __name__ == "__main__":
    main()
