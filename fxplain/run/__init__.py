"""Run: the instrumented forward and its one backward."""

from fxplain.run.execute import Run, forward
from fxplain.run.instrument import instrumented, tap
from fxplain.run.node_run import NodeRun

__all__ = ["NodeRun", "Run", "forward", "instrumented", "tap"]
