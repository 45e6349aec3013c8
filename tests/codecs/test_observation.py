"""Observations of every kind: read from specs, encoded, and given back exactly."""

import pytest
import torch
from torchrl.data import (
    Binary,
    Bounded,
    Categorical,
    Composite,
    MultiCategorical,
    MultiOneHot,
    NonTensor,
    OneHot,
    Unbounded,
    UnboundedDiscrete,
)

from wmcomponents.codecs import (
    BinaryCodec,
    BoardCodec,
    DiscreteCodec,
    ImageCodec,
    VectorCodec,
    codec_from_spec,
    codecs_from_spec,
)

KINDS = [
    (Unbounded(3), VectorCodec),
    (Unbounded(()), VectorCodec),
    (Unbounded((2, 3)), VectorCodec),
    (Bounded(-1, 1, shape=(4,)), VectorCodec),
    (Bounded(-1, 1, shape=(4,), dtype=torch.float64), VectorCodec),
    (Bounded(0, 255, shape=(6,), dtype=torch.uint8), VectorCodec),
    (Unbounded((20, 20, 3)), VectorCodec),
    (Bounded(0, 100000, shape=(5, 5, 2), dtype=torch.int64), VectorCodec),
    (Categorical(4), DiscreteCodec),
    (Categorical(4, shape=(2,)), DiscreteCodec),
    (OneHot(4), DiscreteCodec),
    (OneHot(4, shape=(2, 4)), DiscreteCodec),
    (MultiCategorical([3, 4]), DiscreteCodec),
    (MultiOneHot([3, 4]), DiscreteCodec),
    (Binary(5), BinaryCodec),
    (UnboundedDiscrete(shape=(7,), dtype=torch.bool), BinaryCodec),
    (Bounded(0, 255, shape=(32, 16, 3), dtype=torch.uint8), ImageCodec),
    (UnboundedDiscrete(shape=(16, 16, 1), dtype=torch.uint8), ImageCodec),
    (Bounded(0, 255, shape=(8, 16, 3), dtype=torch.uint8), BoardCodec),
    (UnboundedDiscrete(shape=(10, 10, 4), dtype=torch.bool), BoardCodec),
    (Bounded(0, 10, shape=(7, 7, 3), dtype=torch.uint8), BoardCodec),
    (Bounded(-1, 1, shape=(3, 3, 2), dtype=torch.int64), BoardCodec),
]


@pytest.mark.parametrize("spec,kind", KINDS, ids=[f"{kind.__name__}-{i}" for i, (_, kind) in enumerate(KINDS)])
@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_each_spec_has_its_kind_and_decodes_into_its_own_space(spec, kind, lead):
    observation = codec_from_spec(spec)
    assert isinstance(observation, kind)
    x = spec.expand(*lead, *spec.shape).rand() if lead else spec.rand()
    features = observation.encode(x)
    assert features.dtype == torch.float32
    decoded = observation.decode(5 * torch.randn_like(features))
    assert decoded.shape == x.shape and decoded.dtype == x.dtype
    assert (spec.expand(*lead, *spec.shape) if lead else spec).is_in(decoded)
    assert observation.error(torch.randn_like(features), features).shape == lead


@pytest.mark.parametrize("spec,kind", KINDS, ids=[f"{kind.__name__}-{i}" for i, (_, kind) in enumerate(KINDS)])
def test_raw_outputs_that_name_the_truth_decode_to_it(spec, kind):
    observation = codec_from_spec(spec)
    x = spec.expand(9, *spec.shape).rand()
    features = observation.encode(x)
    raw = features if kind in (VectorCodec, DiscreteCodec) else torch.logit(features, 1e-6)
    torch.testing.assert_close(observation.decode(raw), x, rtol=1e-6, atol=0)


def test_an_observation_clamps_to_its_bounds():
    low, high = torch.tensor([-1.0, 0.0]), torch.tensor([1.0, float("inf")])
    observation = codec_from_spec(Bounded(low, high))
    assert observation.decode(torch.tensor([[-5.0, -5.0], [5.0, 1e9]])).tolist() == [[-1.0, 0.0], [1.0, 1e9]]


def test_keys_come_back_sorted_and_absent_ones_are_skipped():
    assert list(codecs_from_spec(Composite(b=Unbounded(1), a=Categorical(2), c=None))) == ["a", "b"]


@pytest.mark.parametrize(
    "spec,message",
    [
        (Composite(), "at least one"),
        (Composite(a=Composite(b=Unbounded(1))), "'a'.*nested"),
        (Composite(text=NonTensor(example_data="x")), "'text'.*drop this key"),
        (Composite(m=MultiOneHot([2, 3], shape=(2, 5))), "'m'.*one vector of unequal categories"),
    ],
)
def test_what_cannot_be_encoded_is_refused_by_name(spec, message):
    with pytest.raises(ValueError, match=message):
        codecs_from_spec(spec)
