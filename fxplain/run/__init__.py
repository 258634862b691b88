"""Run: the instrumented forward and its one backward."""

from fxplain.run.execute import NodeRun, Run, forward
from fxplain.run.instrument import instrumented, tap

__all__ = ["NodeRun", "Run", "forward", "instrumented", "tap"]
