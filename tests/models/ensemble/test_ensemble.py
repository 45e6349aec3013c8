"""An ensemble of world models: what it shows, what it refuses, how it is saved."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from tests.support.drive import actions, assert_same, sequences, some_states
from tests.support.models import IMAGE, VECTOR, dreamer
from wmcomponents.dream import Disagreement, Simulator, Uncertainty
from wmcomponents.functional import ensemble_variance, max_pairwise_distance
from wmcomponents.models import Ensemble
from wmcomponents.models.loading import load
from wmcomponents.models.rssm.dreamer_v3.config import DreamerV3Config
from wmcomponents.pretrained import BadModelError
from wmcomponents.testing import check_world_model
from wmcomponents.testing.toy import ToyWorldModel
from wmcomponents.world_model import CapabilityError

PROPAGATIONS = ("TS1", "TSinf", "apart")
BLIND = ("features", "reward", "continue", "value")


def toys(count=3, equal=False, **options):
    return [ToyWorldModel(VECTOR, OneHot(3), noise="normal", seed=0 if equal else k, **options) for k in range(count)]


def tiny():
    return dreamer(DreamerV3Config.tiny(units=16, deter=16, hidden=16, blocks=2), VECTOR, OneHot(3))


@pytest.mark.parametrize("propagation", ["TSinf", "apart"])  # TS1 of DreamerV3 is in the contract
def test_every_propagation_keeps_the_protocol(propagation):
    assert check_world_model(Ensemble.of(tiny, 2, propagation=propagation)).held


@settings(max_examples=15, deadline=None)
@given(
    members=st.integers(2, 4),
    propagation=st.sampled_from(PROPAGATIONS),
    by=st.sampled_from([ensemble_variance, max_pairwise_distance]),
    of=st.sampled_from(["observation", "features", "reward"]),
    seed=st.integers(0, 2**16),
)
def test_equal_members_disagree_by_nothing_all_through_a_dream(members, propagation, by, of, seed):
    ensemble = Ensemble(toys(members, equal=True), propagation)
    simulator = Simulator(ensemble, batch_size=4, seed=seed, uncertainty=Uncertainty(Disagreement(by, of)))
    simulator.reset()
    for step in range(4):
        simulator.step(actions(ensemble, 4, seed=seed + step))
        assert simulator.uncertainty.max() <= 1e-12


@pytest.mark.parametrize("of", ["observation", "features", "reward"])
def test_members_with_weights_of_their_own_disagree(of):
    ensemble = Ensemble(toys())
    state, action = some_states(ensemble, 6), actions(ensemble, 6)
    found = ensemble.predict_members(state, action, of)
    alone = [
        member.imagine({key: state[f"members_{key}"][:, k] for key in ("memory", "z")}, action, None)
        for k, member in enumerate(ensemble.members)
    ]
    expected = {
        "observation": [m.decode(p.state)["observation"] for m, p in zip(ensemble.members, alone, strict=True)],
        "features": [m.features(p.state) for m, p in zip(ensemble.members, alone, strict=True)],
        "reward": [p.reward for p in alone],
    }[of]
    torch.testing.assert_close(found.mean, torch.stack(expected, -2))
    assert found.std is None and (ensemble_variance(found.mean) > 0).all()


def test_a_row_shows_its_member_and_all_observe_what_it_predicted():
    ensemble = Ensemble(toys(), "TSinf")
    state, action = some_states(ensemble, 12), actions(ensemble, 12)
    noise = ensemble.noise_source("imagine")((12,), torch.Generator().manual_seed(3))
    after, reward, _ = ensemble.imagine(state, action, noise)
    assert len(state["member"].unique()) == 3 and torch.equal(after["member"], state["member"])
    own = [{key: state[f"members_{key}"][:, k] for key in ("memory", "z")} for k in range(3)]
    predicted = [m.imagine(s, action, noise) for m, s in zip(ensemble.members, own, strict=True)]
    for row, k in enumerate(state["member"].flatten().tolist()):
        shown = ensemble.members[k].decode(predicted[k].state)["observation"][row]
        torch.testing.assert_close(reward[row], predicted[k].reward[row])
        for j, member in enumerate(ensemble.members):
            before = {key: value[row] for key, value in own[j].items()}
            seen = member.observe(before, action[row], {"observation": shown}, torch.zeros(1, dtype=torch.bool), None)
            torch.testing.assert_close(after["members_memory"][row, j], seen["memory"])


def test_a_member_is_drawn_anew_at_each_step_or_once():
    drawn = {}
    for propagation in PROPAGATIONS:
        ensemble = Ensemble(toys(), propagation)
        simulator = Simulator(ensemble, batch_size=64, seed=0)
        simulator.reset()
        members = [simulator.state["member"]]
        for step in range(4):
            simulator.step(actions(ensemble, 64, seed=step))
            members.append(simulator.state["member"])
        stays = torch.stack(members)
        assert stays.min() == 0 and stays.max() == 2
        drawn[propagation] = bool((stays == stays[0]).all())
    assert drawn == {"TS1": False, "TSinf": True, "apart": True}


def test_apart_every_member_dreams_its_own_dream():
    ensemble = Ensemble(toys(), "apart")
    state, action = some_states(ensemble, 5), actions(ensemble, 5)
    noise = ensemble.noise_source("imagine")((5,), torch.Generator().manual_seed(3))
    after = ensemble.imagine(state, action, noise).state
    for k, member in enumerate(ensemble.members):
        own = {key: state[f"members_{key}"][:, k] for key in ("memory", "z")}
        assert_same({key: after[f"members_{key}"][:, k] for key in own}, member.imagine(own, action, noise).state)


def test_the_filter_of_a_sequence_is_every_members_own():
    ensemble = Ensemble(toys())
    data, noise = sequences(ensemble), None
    observed = {"observation": data["observation"]}
    state = ensemble.observe_sequence(ensemble.initial_state((3,)), data["action"], observed, data["is_init"], noise)
    for k, member in enumerate(ensemble.members):
        alone = member.observe_sequence(member.initial_state((3,)), data["action"], observed, data["is_init"], noise)
        assert_same({key: state[f"members_{key}"][:, :, k] for key in alone}, alone)


def test_images_and_models_without_a_decoder_are_ensembles_too():
    seeing = Ensemble([ToyWorldModel(IMAGE, Bounded(-1, 1, (2,)), seed=k) for k in range(2)])
    state, action = some_states(seeing, 3), actions(seeing, 3)
    assert seeing.predict_members(state, action).mean.shape == (3, 2, 36 * 36 * 3)
    blind = Ensemble(toys(2, parts=BLIND))
    assert blind.propagation == "apart"
    with pytest.raises(CapabilityError, match=r"of='observation' needs decode.*\['features', 'reward'\]"):
        blind.predict_members(some_states(blind, 3), actions(blind, 3))
    with pytest.raises(CapabilityError, match="propagation='TS1' needs decode.*'apart'"):
        Ensemble(toys(2, parts=BLIND), "TS1")


def test_members_begin_with_weights_of_their_own_and_a_seed_repeats_them():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, other = (Ensemble.of(tiny, members=2, seed=3) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert not all(
        torch.equal(a, b) for a, b in zip(one.members[0].parameters(), one.members[1].parameters(), strict=True)
    )
    with pytest.raises(ValueError, match="one and the same weights"):
        Ensemble.of(lambda: ToyWorldModel(VECTOR, OneHot(3)), members=2)


def test_it_is_saved_and_loaded_whole(tmp_path):
    ensemble = Ensemble.of(tiny, members=2, seed=0, propagation="TSinf").eval()
    starts = some_states(ensemble, 4)
    ensemble.save_pretrained(tmp_path / "model", starts=starts)
    for again in (Ensemble.from_pretrained(tmp_path / "model"), load(tmp_path / "model")):
        assert (type(again), again.config, again.propagation) == (Ensemble, ensemble.config, "TSinf")
        action = actions(ensemble, 4)
        assert_same(
            again.imagine(starts, action, None).state, ensemble.imagine(starts, action, None).state, rtol=0, atol=0
        )
    config = tmp_path / "model" / "config.json"
    config.write_text(config.read_text().replace("DreamerV3", "DreamerV9"))
    with pytest.raises(BadModelError):
        load(tmp_path / "model")


def test_what_is_no_ensemble_is_refused_with_the_reason():
    one = ToyWorldModel(VECTOR, OneHot(3))
    with pytest.raises(ValueError, match="two models or more"):
        Ensemble([one])
    with pytest.raises(ValueError, match="got 2, 1 of them different"):
        Ensemble([one, one])
    with pytest.raises(TypeError, match="of one class.*DreamerV3, ToyWorldModel"):
        Ensemble([one, tiny()])
    with pytest.raises(TypeError, match="no ensembles themselves"):
        Ensemble([Ensemble(toys()), Ensemble(toys())])
    with pytest.raises(ValueError, match="differ in their action_spec"):
        Ensemble([one, ToyWorldModel(VECTOR, OneHot(2))])
    with pytest.raises(TypeError, match="made of world models"):
        Ensemble([torch.nn.Linear(1, 1), one])
    with pytest.raises(ValueError, match="propagation is"):
        Ensemble(toys(), "TS2")
    with pytest.raises(CapabilityError, match="is no ensemble"):
        one.predict_members(one.initial_state((1,)), one.null_action((1,)))
    assert "members" not in one.capabilities and "members" in Ensemble(toys()).capabilities
    ensemble = Ensemble([one, copy.deepcopy(one)])
    with pytest.raises(ValueError, match="members predict one of"):
        ensemble.predict_members(some_states(ensemble, 2), actions(ensemble, 2), "pixels")
    with pytest.raises(TypeError, match="no config"):
        ensemble.save_pretrained("nowhere")
    assert Composite(observation=Unbounded(3)) == ensemble.observation_spec
