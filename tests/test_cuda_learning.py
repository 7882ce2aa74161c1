"""Learning on a host that stands for a GPU, equal to the reference bit for bit; rules of one's own, translated."""

import gc
import math
from dataclasses import replace

import hostcuda
import hostcuda.examples
import numpy as np
import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st
from test_rules import OUTSIDE, learnt

from eventsnn import STDP, WTA, Competition, Conv, Custom, Network, Pool, ThresholdAdaptation, fit
from eventsnn.backends import cuda_learning, device, get
from eventsnn.backends.cuda_rules import translated

pytestmark = pytest.mark.skipif(hostcuda.COMPILER is None, reason="no C++ compiler here; CXX may name one")
REFERENCE = get("reference")

hosts = st.builds(
    hostcuda.backend, st.sampled_from([1, 2, 5, 8, 32]), st.sampled_from(sorted(hostcuda.ORDERS))
)  # odd launch shapes, permuted blocks


def same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one, other)
        assert one.dtype == other.dtype


@settings(max_examples=120)
@given(strategies.lessons(), hosts, st.sampled_from([1, 3, 16, cuda_learning.ROUND]))
def test_learning_equals_reference(lesson, host, spikes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda_learning, "ROUND", spikes)  # of a round: winners may come in any of them
        same(lesson.learn(host), lesson.learn(REFERENCE))


@pytest.fixture(params=["online", "mini-batches", "patches", "rewarded", "own"])
def lesson(request):
    """Return a lesson over samples of many, few and no spikes, of more rounds than one."""
    return hostcuda.examples.lessons()[request.param]
