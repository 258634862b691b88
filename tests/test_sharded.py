"""Models that are split over processes: FSDP2 and tensor parallelism, each in two of them."""

import os
import socket
import time

import pytest
import torch
import torch.distributed as dist
from torch import multiprocessing, nn

import fxplain
from tests.loading.ways import plain

pytestmark = pytest.mark.slow  # each starts two processes

IDS = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
SECONDS = 300


def sharded(model, mesh):
    from torch.distributed.fsdp import fully_shard

    for layer in model.layers:
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def in_parallel(model, mesh):
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    plan = {}
    for i in range(2):
        plan |= {f"layers.{i}.{name}": ColwiseParallel() for name in ("q", "k", "v", "up")}
        plan |= {f"layers.{i}.{name}": RowwiseParallel() for name in ("out", "down")}
    return parallelize_module(model, mesh, plan)


class Talking(nn.Module):
    """A sum over processes by hand, of which no DTensor tells."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids):
        from torch.distributed._functional_collectives import all_reduce

        return all_reduce(self.model(input_ids), "sum", dist.group.WORLD)


def relevance(model, ids=IDS, **options):
    return fxplain.explain(model, (ids,), **{"target": 1, **options}).relevance["input_ids"]


def at_once(rank, mesh):
    """All that holds of a model in two processes, each asserting its own side."""
    from torch.distributed.fsdp import FullyShardedDataParallel

    whole = plain()
    for split in (sharded, in_parallel):
        model = split(plain(), mesh)
        assert torch.equal(relevance(model), relevance(whole))
        own = IDS if split is in_parallel else IDS[:, : 3 + rank]  # FSDP: each its own data
        assert torch.equal(relevance(model, own), relevance(whole, own))
        assert len(fxplain.inspect(model, (own,)).nodes) == 2
        with pytest.raises(fxplain.TargetError, match="out of range"):  # in both, of one's fault
            relevance(model, target=1 if rank else 9)
        with pytest.raises(fxplain.InputError):
            fxplain.explain(model, (IDS + 100 * rank,), target=1)
        with torch.no_grad():
            changed = plain()
            for (_, old), new in zip(model.named_parameters(), changed.parameters(), strict=True):
                old.mul_(1.25)
                new.mul_(1.25)
            torch.testing.assert_close(model(IDS), changed(IDS))
        torch.testing.assert_close(relevance(model), relevance(changed))
        with torch.no_grad():
            torch.testing.assert_close(model(IDS), changed(IDS))
        for each in (model, changed):
            each.layers[0].register_forward_hook(lambda module, args, output: output * 1.5)
        torch.testing.assert_close(relevance(model), relevance(changed))
        fxplain.clear_captures(model)
    assert torch.equal(
        relevance(nn.parallel.DistributedDataParallel(plain()).eval()), relevance(whole)
    )
    with pytest.raises(fxplain.InputError, match=r"fully_shard \(FSDP2\)"):
        relevance(FullyShardedDataParallel(plain(), device_id=torch.device("cpu")).eval())
    with pytest.raises(fxplain.CaptureError, match=r"exchanges values.*all_reduce"):
        relevance(Talking(plain()).eval())


def worker(rank, port):
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    at_once(rank, dist.init_device_mesh("cpu", (2,)))
    dist.destroy_process_group()


def test_a_model_in_two_processes():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.spawn(worker, (port,), nprocs=2, join=False)
    until = time.monotonic() + SECONDS
    while not context.join(timeout=1):  # raises what a process raised
        if time.monotonic() > until:
            for process in context.processes:
                process.kill()
            pytest.fail("a process waits for another")
