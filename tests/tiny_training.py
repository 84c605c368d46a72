"""A training of seconds in the process of the test, which leaves nothing behind."""

from collections.abc import Iterator

import pytest
from accelerate.state import AcceleratorState, GradientState

# For `train.py --recipe …`; the sizes of the network and of its images are the test's own.
TINY = [
    "training.epochs=1",
    "training.workers=0",
    "training.threads=1",
    "training.precision=fp32",
    "training.memory_format=contiguous",
    "training.trackers=[]",
    "evaluation.n_resamples=20",
]


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Train on the CPU and leave no state of a training behind."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
