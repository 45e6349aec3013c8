"""JEPA's objective: what is predicted, what it is held to, what keeps it from collapsing."""

import pytest
import torch
from tensordict import TensorDict
from torch import nn
from torchrl.data import Bounded, Composite, Unbounded

from wmcomponents.models import JEPA, MODELS, JEPAConfig, JEPALoss, JEPALossConfig
from wmcomponents.objectives.collapse.sequences import SIGReg

SIZES = {"latent": 6, "units": 8, "horizon": 4, "vectors": "raw"}


def made(**changes):
    torch.manual_seed(0)
    return JEPA(JEPAConfig.tiny(**{**SIZES, **changes}), Composite(observation=Unbounded(3)), Bounded(-1, 1, (2,)))


def batch(ends=(), rows=3, time=8):
    """Sequences in which row 0 ends after the steps that are named."""
    torch.manual_seed(1)
    seen = torch.randn(rows, time + 1, 3)
    done = torch.zeros(rows, time, 1, dtype=torch.bool)
    done[0, list(ends)] = True
    first = torch.cat([torch.zeros(rows, 1, 1, dtype=torch.bool), done[:, :-1]], 1)
    td = TensorDict(
        {"observation": seen[:, :-1], "action": torch.rand(rows, time, 2) * 2 - 1, "is_init": first}, [rows, time]
    )
    rest = {"reward": torch.zeros(rows, time, 1), "terminated": done.clone(), "done": done}
    return td.set("next", TensorDict({"observation": seen[:, 1:].clone(), **rest}, [rows, time]))


def test_predictions_go_on_from_themselves_and_are_held_to_embeddings():
    model = made(against_collapse="none", similarity=0.0, inverse_dynamics=0.0)
    data = batch()
    found = model.objective()(data)
    assert set(found.keys()) == {"loss_prediction", "embedding_rank", "embedding_std"}
    errors = []
    for start in (0, 4):
        z = model.encode({"observation": data["observation"][:, start]})
        for t in range(start, start + 4):
            z = model.predictor.compute(z, data["action"][:, t])
            target = model.encode({"observation": data["next", "observation"][:, t]})
            errors.append((z - target).square().mean(-1))
    torch.testing.assert_close(found["loss_prediction"], torch.stack(errors).mean())


def test_an_episode_that_begins_inside_a_window_is_predicted_from_its_own_first_observation():
    objective = made(against_collapse="none", similarity=0.0, inverse_dynamics=0.0).objective()
    objective.reduction = "none"
    one, other = batch(ends=(1,)), batch(ends=(1,))
    other["observation"][0, :2] += 1.0  # of the episode before
    before, after = objective(one)["loss_prediction"], objective(other)["loss_prediction"]
    assert torch.equal(before[0, 2:], after[0, 2:]) and not torch.equal(before[0, :2], after[0, :2])


def test_windows_over_the_end_of_an_episode_are_left_out_of_the_terms_against_collapse():
    objective = made().objective()
    one, other = batch(ends=(1,)), batch(ends=(1,))
    other["observation"][0, :2] += 1.0
    other["next", "observation"][0, :4] += 1.0
    for name in ("loss_variance", "loss_covariance", "loss_similarity", "loss_inverse_dynamics"):
        assert torch.equal(objective(one)[name], objective(other)[name])
    short = batch(ends=(1,), rows=1, time=4)
    assert float(objective(short)["loss_variance"].detach()) == 0.0  # nothing whole is left


@pytest.mark.parametrize(("target", "reaches"), [("online", True), ("stopped", False), ("average", False)])
def test_the_gradient_of_targets_is_as_the_config_says(target, reaches):
    model = made(against_collapse="none", similarity=0.0, inverse_dynamics=0.0, target=target)
    objective = model.objective()
    data = batch(rows=2, time=4)
    seen = data["next", "observation"].requires_grad_()
    objective(data)["loss_prediction"].backward()
    assert bool((seen.grad is not None) and (seen.grad.abs() > 0).any()) == reaches


def test_the_average_follows_the_encoder():
    model = made(target="average", tau=0.25)
    objective = model.objective()
    before = objective.follower.head[0].weight.clone()
    with torch.no_grad():
        objective.world_model_params["head", "0", "weight"].add_(1.0)
    objective.after_update(0)
    torch.testing.assert_close(objective.follower.head[0].weight, before + 0.25)
    assert not any(p.requires_grad for p in objective.follower.parameters())


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("variance_covariance", {"variance", "covariance", "similarity", "inverse_dynamics"}),
        ("distribution", {"distribution", "similarity", "inverse_dynamics"}),
        ("pldm", {"std", "std_t", "cov", "cov_t", "temp_align", "inverse_dynamics"}),
        ("none", {"similarity", "inverse_dynamics"}),
    ],
)
def test_terms_against_collapse_are_named_and_reach_the_encoder(kind, names):
    objective = made(against_collapse=kind).objective()
    found = objective(batch())
    assert {f"loss_{name}" for name in names} | {"loss_prediction"} == {
        k for k in found.keys() if k.startswith("loss_")
    }
    assert set(found.keys()) == set(objective.out_keys)
    sum(found[f"loss_{name}"] for name in names).backward()
    assert objective.world_model_params["head", "0", "weight"].grad.abs().sum() > 0
    assert (objective.world_model_params["inverse_dynamics", "0", "weight"].grad.abs() > 0).any()


def test_a_collapsed_encoder_is_told_by_the_diagnostics():
    model = made()
    with torch.no_grad():
        model.head[0].weight.zero_()
    found = model.objective()(batch())
    assert float(found["embedding_rank"]) <= 1.0 + 1e-4 and float(found["embedding_std"]) < 1e-6


def test_a_users_terms_take_the_place_of_the_configs():
    objective = JEPALoss(made(), against=SIGReg(directions=8))
    assert objective.out_keys[:2] == ["loss_prediction", "loss_distribution"]


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="'online', 'stopped' or 'average'; got 'moving'"):
        JEPALoss(made(), JEPALossConfig(target="moving"))
    with pytest.raises(ValueError, match="'pldm' or 'none'; got 'magic'"):
        JEPALoss(made(), JEPALossConfig(against_collapse="magic"))
    with pytest.raises(ValueError, match="horizon is at least 1"):
        JEPALoss(made(), JEPALossConfig(horizon=0))
    with pytest.raises(ValueError, match="one of 'gru', 'mlp', 'conv'"):
        made(predictor="rnn")
    with pytest.raises(TypeError, match="predictor"):
        JEPALoss(nn.Linear(1, 1))


SCALE = {"pixel_mean": (0.2, 0.0, 0.4), "pixel_std": (0.1, 1.0, 0.5)}


def seeing(**changes):
    torch.manual_seed(0)
    images = Composite(pixels=Bounded(0, 255, (32, 32, 3), dtype=torch.uint8))
    return JEPA(JEPAConfig.tiny(channels=(2,), **{**SIZES, **changes}), images, Bounded(-1, 1, (2,)))


def test_channels_are_brought_to_the_scale_that_is_given():
    scaled, plain = seeing(**SCALE), seeing()
    image = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)
    mean, std = (torch.tensor(SCALE[name]) for name in ("pixel_mean", "pixel_std"))
    by_hand = 255.0 * (image / 255.0 - mean) / std
    torch.testing.assert_close(scaled.encode({"pixels": image}), plain.encode({"pixels": by_hand}))


def test_a_map_is_predicted_from_what_is_near():
    model = seeing(predictor="conv", latent=3, map_layers=1)
    assert model.state_spec["embedding"].shape == (3 * 16 * 16,)
    embedding = torch.randn(1, 3 * 16 * 16).requires_grad_()
    following = model.imagine({"embedding": embedding}, torch.zeros(1, 2), None).state["embedding"]
    (reach,) = torch.autograd.grad(following.reshape(3, 16, 16)[:, 8, 4].sum(), embedding)
    seen = reach.reshape(3, 16, 16).abs().sum(0) > 0
    assert seen[6:11, 2:7].any(1).all() and seen.sum() <= 25  # two convolutions of 3x3


def test_a_map_takes_the_action_at_every_place():
    model = seeing(predictor="conv", latent=3)
    state = {"embedding": torch.randn(1, 3 * 16 * 16).expand(2, -1)}
    one, other = model.imagine(state, torch.tensor([[0.5, 0.0], [0.0, 0.5]]), None).state["embedding"]
    assert ((one - other).reshape(3, 16, 16).abs().sum(0) > 0).all()


def test_a_map_is_made_of_images_alone():
    seen = Composite(pixels=Bounded(0, 255, (16, 16, 3), dtype=torch.uint8), speed=Unbounded(2))
    with pytest.raises(ValueError, match=r"images alone; got \['pixels', 'speed'\]. Take 'gru' or 'mlp'"):
        JEPA(JEPAConfig.tiny(predictor="conv"), seen, Bounded(-1, 1, (2,)))


@pytest.mark.parametrize("family", ["JEPA", "PLDM", "LeWM"])
def test_a_scale_of_other_channels_is_refused(family):
    kind = MODELS[family]
    images = Composite(pixels=Bounded(0, 255, (32, 32, 3), dtype=torch.uint8))
    with pytest.raises(ValueError, match="each of the images' 3 channels; got 2 and 1"):
        kind(kind.config_class.tiny(pixel_mean=(0.5, 0.5), pixel_std=(0.5,)), images, Bounded(-1, 1, (2,)))
