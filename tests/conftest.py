"""Settings for all tests: one thread each, since as many workers as cores run side by side."""

import torch

torch.set_num_threads(1)
