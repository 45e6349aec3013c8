"""A probe shows what a latent knows, and changes nothing else."""

import copy

import pytest
import torch
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from tests.support.worlds import PointMass, point_mass_sequences, transitions
from wmcomponents.evaluation import fit_probe, horizon_errors
from wmcomponents.testing.toy import ToyWorldModel
from wmcomponents.world_model import CapabilityError, Prediction

QUICK = {"updates": 300, "batch_size": 64, "lr": 3e-3}


class Blind(PointMass):
    """A point mass that nothing decodes."""

    @property
    def capabilities(self):
        return super().capabilities - {"decode"}

    def features(self, state):
        """Turned and scaled, so that reading it off is work."""
        point = state["point"]
        return torch.cat([3.0 * point[..., :1] + point[..., 1:], 0.1 * point[..., 1:] - 2.0], -1)


def test_a_probe_reads_what_the_latent_holds():
    probed = fit_probe(Blind(), point_mass_sequences(batch=64), **QUICK)
    found = horizon_errors(probed, point_mass_sequences(batch=32, seed=1), burn_in=2, horizon=10)
    assert max(found.observation["observation"].model) < 0.02  # of the variance
    assert found.reward is not None and max(found.reward.model) < 1e-5  # the model's own


def test_what_the_latent_does_not_hold_stays_unknown():
    class Deaf(Blind):
        def features(self, state):
            return torch.zeros_like(state["point"])

    probed = fit_probe(Deaf(), point_mass_sequences(batch=64), **QUICK)
    found = horizon_errors(probed, point_mass_sequences(batch=32, seed=1), burn_in=2, horizon=3)
    assert min(found.observation["observation"].model) > 0.5


def test_a_probe_learns_from_imagined_states_too():
    class Drifting(Blind):
        """Each imagined step turns the sign of its features' axis: the filter's states say nothing of it."""

        def __init__(self):
            super().__init__()
            self.state_spec["age"] = Unbounded(1)

        def observe(self, state, action, observation, is_init, noise):
            seen = super().observe({"point": state["point"]}, action, observation, is_init, noise)
            return {**seen, "age": torch.zeros_like(seen["point"][..., :1])}

        def imagine(self, state, action, noise):
            after, reward, cont = super().imagine({"point": state["point"]}, action, noise)
            return Prediction({**after, "age": state["age"] + 1.0}, reward, cont)

        def features(self, state):
            return torch.cat([state["point"] * (1.0 - 2.0 * state["age"].clamp(max=1.0)), state["age"]], -1)

    errors = []
    for horizon in (0, 6):
        probed = fit_probe(Drifting(), point_mass_sequences(batch=64), horizon=horizon, **{**QUICK, "updates": 1000})
        found = horizon_errors(probed, point_mass_sequences(batch=32, seed=1), burn_in=2, horizon=6)
        errors.append(max(found.observation["observation"].model))
    assert errors[1] < 0.1 < 1.0 < errors[0]


def test_a_horizon_longer_than_the_sequences_is_refused():
    with pytest.raises(ValueError, match="at least one more; got 20"):
        fit_probe(Blind(), point_mass_sequences(), horizon=20)


def test_boards_and_images_are_read_too():
    spec = Composite(
        board=Bounded(0, 1, (3, 3, 2), dtype=torch.bool), camera=Bounded(0, 255, (16, 16, 3), dtype=torch.uint8)
    )
    model = ToyWorldModel(spec, OneHot(2), parts=("features", "reward", "continue"), noise="none")
    lead = (4, 6)
    seen = {key: leaf.expand(*lead, *leaf.shape).rand() for key, leaf in spec.items()}
    action = OneHot(2).expand(*lead, 2).rand()
    probed = fit_probe(model, transitions(seen, seen, action, torch.zeros(*lead, 1)), updates=3, batch_size=4)
    shown = probed.decode(probed.initial_state((5,)))
    assert all(spec[key].expand(5, *spec[key].shape).is_in(value) for key, value in shown.items())


def test_neither_the_model_nor_the_global_generator_is_touched():
    model = ToyWorldModel(Composite(observation=Unbounded(2)), OneHot(2), parts=("features",), noise="none")
    before, drawn = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    observed = {"observation": torch.randn(3, 5, 2, generator=torch.Generator().manual_seed(0))}
    action = torch.nn.functional.one_hot(torch.zeros(3, 5, dtype=torch.long), 2)
    fit_probe(model, transitions(observed, observed, action, torch.zeros(3, 5, 1)), updates=2)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_without_features_there_is_nothing_to_probe():
    model = ToyWorldModel(Composite(observation=Unbounded(2)), OneHot(2), parts=("reward",))
    with pytest.raises(CapabilityError, match="features"):
        fit_probe(model, point_mass_sequences())
