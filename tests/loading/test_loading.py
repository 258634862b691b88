"""Every way of having a model is explained right, or refused as it should be."""

import pytest

from tests.loading.__main__ import tried
from tests.loading.ways import OTHERS, WAYS, Way
from tests.long_run import quickly

QUICK = {way.name for way in WAYS} - {
    "`torch.compile`", "`torch.compile` as a part", "accelerate: `disk_offload`",
    *(f"PEFT: {name}" for name in OTHERS),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    "way", quickly(WAYS, QUICK, lambda way: way.name), ids=lambda way: way.name
)
def test_explained_right_or_refused(way: Way) -> None:
    if way.needs:
        pytest.importorskip(way.needs)
    found = tried(way)
    assert found.right(way), (found.difference, found.message)
