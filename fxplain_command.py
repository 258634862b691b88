"""The command ``fxplain``, for which Ctrl-C is no traceback while it imports torch, either."""

import signal

__all__ = ["main"]


def main() -> None:
    """Import the commands, and run the one that is asked for.

    Until they are there Ctrl-C ends the process as it does one that is not Python's: there is
    nothing to undo, and what is half imported does not always hand an exception on.
    """
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:  # in the background of a shell it is ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        from fxplain.cli import main as command
    finally:
        signal.signal(signal.SIGINT, handler)
    command()


if __name__ == "__main__":
    main()
