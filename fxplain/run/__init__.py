"""Run: the instrumented forward and its one backward."""

from fxplain.run.disturbance import UNDISTURBED, Disturbance, Noise
from fxplain.run.execute import Run, slow_batches_unsaid
from fxplain.run.forward import forward
from fxplain.run.instrument import instrumented, tap
from fxplain.run.node_run import NodeRun
from fxplain.run.other_uses import consumer
from fxplain.run.recording import Recording
from fxplain.run.replay import DoesNotHoldError, Replay
from fxplain.run.scratch import Scratch

__all__ = [
    "UNDISTURBED",
    "Disturbance",
    "DoesNotHoldError",
    "NodeRun",
    "Noise",
    "Recording",
    "Replay",
    "Run",
    "Scratch",
    "consumer",
    "forward",
    "instrumented",
    "slow_batches_unsaid",
    "tap",
]
