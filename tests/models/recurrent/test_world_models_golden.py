"""World Models against numbers of its authors' code and of ctallec/world-models."""

import pytest
import torch
from torchrl.data import Bounded, Composite, Unbounded

from tests.support.golden_vectors import load
from wmcomponents.dynamics import MDNRNN, DimensionMixture
from wmcomponents.models import WorldModels
from wmcomponents.objectives.arrivals import Arrivals
from wmcomponents.pretrained import BadModelError


def close(actual, expected, meta):
    torch.testing.assert_close(actual.reshape(expected.shape), expected, **meta["tolerance"])


def under(tensors, prefix):
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def checkpoint():
    """V of one vector and M of the other, which have latents of one size, as the repository saves them."""
    parts = {}
    for part, name in (("vae", "wm_vae"), ("mdrnn", "wm_mdnrnn")):
        parts[f"{part}/best.tar"] = {"epoch": 3, "state_dict": under(load(name)[1], "w/"), "precision": 0.5}
    return parts


@pytest.fixture
def model():
    return WorldModels.from_official(checkpoint())


def test_the_autoencoder_gives_the_port_s_moments_image_and_losses(model):
    meta, tensors = load("wm_vae")
    frames = {"pixels": tensors["in/image"].permute(0, 2, 3, 1) * 255.0}  # not rounded to bytes
    mu, logvar = model.encoder.encode(frames)
    close(mu, tensors["out/mu"], meta)
    close(logvar / 2, tensors["out/logsigma"], meta)
    raw = model.decoder.raw(model.encoder.sample(mu, logvar, tensors["in/eps"]))
    close(raw["pixels"].sigmoid().permute(0, 3, 1, 2), tensors["out/recon"], meta)
    nothing = torch.zeros(1, 2, 1)
    arrivals = Arrivals({"pixels": frames["pixels"][None]}, *[nothing] * 7)
    losses, info = model.objective().vision_terms(arrivals, tensors["in/eps"][None])
    close(losses["reconstruction"].sum(), tensors["out/recon_loss"], meta)
    close(losses["kl"].sum(), tensors["out/kld"], meta)
    assert torch.equal(losses["kl"], info["kl"])


def test_the_recurrent_network_gives_the_port_s_mixture_losses_and_gradients(model):
    meta, tensors = load("wm_mdnrnn")
    latents, actions, following, reward, end = (
        tensors[f"in/{key}"].transpose(0, 1) for key in ("latents", "actions", "next_latents", "reward", "terminal")
    )
    memory, mixture = model.memory, model.memory.mixture
    h, c = memory.initial_state((3,))
    hs, cs = memory.advance_sequence(latents, h, c, actions, torch.zeros(3, 5, 1, dtype=torch.bool))
    raw = memory.raw(hs)
    logits, mean, log_std = (value.transpose(0, 1) for value in mixture.unpack(raw))
    close(logits.log_softmax(-1), tensors["out/logpi"], meta)
    close(mean, tensors["out/mus"], meta)
    close(log_std.exp(), tensors["out/sigmas"], meta)
    predicted, logit = model.reward_head.raw(hs), model.termination_head.raw(hs)
    close(predicted.transpose(0, 1), tensors["out/reward"], meta)
    close(logit.transpose(0, 1), tensors["out/done_logit"], meta)
    nll = -mixture.log_prob(raw, following)
    mse = model.reward_head.loss(predicted, reward.unsqueeze(-1))
    bce = model.termination_head.loss(logit, end.unsqueeze(-1))
    close(nll.transpose(0, 1), tensors["out/gmm_nll_unreduced"], meta)
    for value, key in ((nll, "gmm_loss"), (mse, "mse"), (bce, "bce")):
        close(value.mean(), tensors[f"out/{key}"], meta)
    loss = model.objective()
    total = loss.mixture_scale * nll + loss.reward_scale * mse + loss.termination_scale * bce
    close(total.mean(), tensors["out/total_loss"], meta)
    total.mean().backward()
    for t in range(5):
        h, c = memory.advance(latents[:, t], h, c, actions[:, t])
    close(h, tensors["out/cell/h"], meta)
    close(c, tensors["out/cell/c"], meta)
    close(mixture.unpack(memory.raw(h))[1], tensors["out/cell/last_mus"], meta)
    close(model.reward_head.raw(h), tensors["out/cell/last_reward"], meta)
    lstm = memory.lstm
    for bias in ("bias_ih", "bias_hh"):
        close(lstm.bias.grad, tensors[f"grad/rnn.{bias}_l0"], meta)
    close(lstm.weight_hh.grad, tensors["grad/rnn.weight_hh_l0"], meta)
    close(lstm.weight_ih.grad.roll(2, -1), tensors["grad/rnn.weight_ih_l0"], meta)
    for kind in ("weight", "bias"):
        parts = [getattr(out, kind).grad for out in (memory.out, model.reward_head.out, model.termination_head.out)]
        close(torch.cat(parts), tensors[f"grad/gmm_linear.{kind}"], meta)


def test_the_losses_on_transitions_are_the_port_s(model):
    # One sequence of M's vector whose next latents are its latents, as observations that the encoder passes on.
    _, tensors = load("wm_mdnrnn")
    z, actions = tensors["in/latents"].transpose(0, 1), tensors["in/actions"].transpose(0, 1)
    model.encoder.encode = lambda observation: (observation["z"], torch.full_like(observation["z"], -200.0))
    reward = tensors["in/reward"].transpose(0, 1).unsqueeze(-1)
    end = tensors["in/terminal"].transpose(0, 1).unsqueeze(-1) > 0.5
    inside = torch.zeros(3, 5, 1, dtype=torch.bool)
    led = torch.cat([torch.zeros_like(actions[:, :1]), actions[:, :-1]], 1)
    arrivals = Arrivals({"z": z}, led, inside, reward, end, ~inside, torch.ones(3, 5), torch.ones(3, 5).bool())
    losses, info = model.objective().memory_terms(arrivals, torch.zeros_like(z))
    h, c = model.memory.initial_state((3,))
    hs, _ = model.memory.advance_sequence(z[:, :-1], h, c, actions[:, :-1], inside[:, 1:])
    log_prob = model.memory.mixture.log_prob(model.memory.raw(hs), z[:, 1:])
    torch.testing.assert_close(losses["mixture"], -log_prob / 6)
    torch.testing.assert_close(info["log_prob"], log_prob / 4)
    torch.testing.assert_close(
        losses["termination"], model.termination_head.loss(model.termination_head.raw(hs), end[:, 1:].float()) / 6
    )


def test_the_authors_own_network_has_a_mixture_for_every_dimension():
    meta, tensors = load("wm_original_mdnrnn_perdim")
    sizes = meta["config"]
    mixture = DimensionMixture(sizes["latent"], sizes["num_mixture"])
    memory = MDNRNN(mixture, sizes["action"], sizes["rnn_size"], sizes["forget_bias"])
    kernel, bias = tensors["w/RNN/basic_lstm_cell/kernel"], tensors["w/RNN/basic_lstm_cell/bias"]
    i, g, f, o = kernel.chunk(4, 1)  # TensorFlow's order of the gates
    weight = torch.cat([i, f, g, o], 1).t()
    i, g, f, o = bias.chunk(4)
    inputs = sizes["latent"] + sizes["action"]
    weights = {
        "lstm.weight_ih": weight[:, :inputs],
        "lstm.weight_hh": weight[:, inputs:],
        "lstm.bias": torch.cat([i, f, g, o]),
        "out.weight": tensors["w/RNN/output_w"].t(),
        "out.bias": tensors["w/RNN/output_b"],
    }
    memory.load_state_dict(weights)
    z, action = tensors["in/z"], tensors["in/action"]
    h, c = memory.initial_state((2,))
    hs, cs = memory.advance_sequence(z[:, :-1], h, c, action, torch.zeros(2, 5, 1, dtype=torch.bool))
    close(hs[:, -1], tensors["out/final_h"], meta)
    close(cs[:, -1], tensors["out/final_c"], meta)
    logits, mean, log_std = mixture.unpack(memory.raw(hs))
    for value, key in ((logits.log_softmax(-1), "logmix"), (mean, "mean"), (log_std, "logstd")):
        close(value, tensors[f"out/{key}"], meta)
    cost = -mixture.log_prob(memory.raw(hs), z[:, 1:]).mean() / sizes["latent"]
    close(cost, tensors["out/cost"], meta)


def test_an_action_spec_with_bounds_changes_the_units_and_not_the_prediction(model):
    bounds = Bounded(torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 3.0]), (2,))
    bounded = WorldModels.from_official(checkpoint(), action_spec=bounds)
    state = {key: torch.randn(3, 4 if key == "z" else 6) for key in ("z", "h", "c")}
    action = bounds.rand((3,))
    plain, scaled = (each.imagine(state, action, None) for each in (model, bounded))
    for key, value in plain.state.items():
        torch.testing.assert_close(scaled.state[key], value)
    torch.testing.assert_close(scaled.reward, plain.reward)


def test_a_mapping_of_bare_state_dicts_is_read_as_well(model):
    files = checkpoint()
    bare = {part: files[f"{part}/best.tar"]["state_dict"] for part in ("vae", "mdrnn")}
    spec = Composite(camera=Bounded(0, 255, (64, 64, 3), dtype=torch.uint8))
    other = WorldModels.from_official(bare, observation_spec=spec)
    assert list(other.observation_spec.keys()) == ["camera"]
    for key, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[key], value)


@pytest.mark.parametrize(
    ("part", "key", "change", "message"),
    [
        ("vae", "encoder.conv2.weight", None, "encoder.conv2.weight"),
        ("vae", "encoder.fc_mu.bias", None, "encoder.mu.bias"),
        ("mdrnn", "rnn.bias_hh_l0", None, "bias_hh"),
        ("mdrnn", "gmm_linear.bias", None, "gmm_linear lacks its bias"),
        ("mdrnn", "gmm_linear.weight", torch.zeros(48, 6), "do not fit the 4 latent"),
        ("vae", "encoder.extra", torch.zeros(3), "vae.encoder.extra"),
        ("vae", "decoder.fc1.weight", torch.zeros(16, 5), "decoder.fc1.weight"),
        ("vae", "encoder.fc_mu.weight", torch.zeros(4), "expected a tensor of 2 dimensions"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_by_the_name_of_its_key(part, key, change, message):
    files = checkpoint()
    weights = files[f"{part}/best.tar"]["state_dict"]
    weights.pop(key, None)
    if change is not None:
        weights[key] = change
    with pytest.raises(BadModelError, match=message):
        WorldModels.from_official(files)


def test_v_without_m_is_refused():
    files = checkpoint()
    del files["mdrnn/best.tar"]
    with pytest.raises(BadModelError, match="mdrnn"):
        WorldModels.from_official(files)


def test_an_action_of_another_length_is_refused():
    with pytest.raises(BadModelError, match="actions of 2 numbers; the action_spec given has 3"):
        WorldModels.from_official(checkpoint(), action_spec=Unbounded(3))
