"""The assembled Oasis: frames drawn as its authors draw them, two stages of learning, published files."""

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded, Composite, OneHot

from tests.support.golden_vectors import load
from tests.support.models import OASIS, SMALL
from wmcomponents.codecs import MINECRAFT_KEYS
from wmcomponents.dream import last_states
from wmcomponents.functional import alphas_cumprod, sigmoid_betas
from wmcomponents.models import Oasis, OasisConfig, OasisLossConfig
from wmcomponents.models.official import load_official
from wmcomponents.pretrained import BadModelError


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    net = Oasis(OasisConfig.tiny(**{**OASIS, "steps": 3, "target": "v"}), SMALL, OneHot(3)).eval()
    for parameter in net.network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return net


def sequences(rows=2, steps=4):
    generator = torch.Generator().manual_seed(0)
    seen = torch.randint(0, 256, (rows, steps + 1, 16, 16, 3), generator=generator, dtype=torch.uint8)
    chosen = torch.randint(3, (rows, steps), generator=generator)
    flag = torch.zeros(rows, steps, 1, dtype=torch.bool)
    after = {"pixels": seen[:, 1:].clone(), "reward": torch.ones(rows, steps, 1), "terminated": flag, "done": flag}
    now = {"pixels": seen[:, :-1].clone(), "action": torch.nn.functional.one_hot(chosen, 3), "is_init": flag.clone()}
    return TensorDict({**now, "next": TensorDict(after, [rows, steps])}, [rows, steps])


@torch.no_grad()
def drawn_by_hand(model, window, led, noise, steps):
    """A new frame as the authors' script draws it: the whole window in every step, the past untouched, told as 14."""
    shares = alphas_cumprod(sigmoid_betas(1000))
    levels = torch.linspace(-1, 999, steps + 1).long().tolist()
    x = torch.cat([window, noise.clamp(-20, 20).unsqueeze(1)], 1)
    past = window.shape[1]
    for now, after in zip(levels[:0:-1], levels[-2::-1], strict=True):
        told = torch.full(x.shape[:2], 14)
        told[:, -1] = now
        v = model.network(x, told, led)[:, -1]
        a = shares[now].float()
        clean = a.sqrt() * x[:, -1] - (1 - a).sqrt() * v
        eps = ((1 / a).sqrt() * x[:, -1] - clean) / (1 / a - 1).sqrt()
        b = torch.tensor(1.0) if after < 0 else shares[after].float()
        new = b.sqrt() * clean + (1 - b).sqrt() * eps
        x = torch.cat([x[:, :past], new.unsqueeze(1)], 1)
    return x[:, -1]


@torch.no_grad()
def test_frames_are_drawn_as_the_authors_draw_them_and_the_window_slides(model):
    state = last_states(model, sequences(steps=2))
    frames, led = state["window"][:, :2], state["led"][:, :2]
    assert state["filled"].tolist() == [[2], [2]]
    for step in range(3):
        action = torch.nn.functional.one_hot(torch.tensor([step % 3, 2]), 3)
        noise = {key: value for key, value in model.noise_spec["imagine"].expand(2).rand().items()}
        told = torch.cat([led, action.float().unsqueeze(1)], 1)
        expected = drawn_by_hand(model, frames, told, noise["frame"][:, 0], model.sampling.steps)
        state = model.imagine(state, action, noise).state
        frames, led = torch.cat([frames, expected.unsqueeze(1)], 1), told
        newest = state["window"][:, int(state["filled"][0]) - 1]
        torch.testing.assert_close(newest, expected, rtol=1e-3, atol=1e-3)
        frames, led = frames[:, -(model.window - 1) :], led[:, -(model.window - 1) :]
    assert state["filled"].tolist() == [[model.window]] * 2


def test_pictures_are_made_when_someone_looks(model):
    state = last_states(model, sequences(steps=3))
    shown = model.decode(state)["pixels"]
    newest = state["window"][:, 2]
    assert shown.dtype == torch.uint8 and torch.equal(shown, model.tokenizer.pixels(newest))
    torch.testing.assert_close(newest, model.tokenizer(sequences(steps=3)["pixels"][:, -1]))


def test_the_autoencoder_learns_first_and_then_the_network_over_its_latents():
    torch.manual_seed(0)
    model = Oasis(OasisConfig.tiny(**OASIS, autoencoder_steps=2), SMALL, OneHot(3))
    objective, batch = model.objective(), sequences()
    assert [objective.stage_at(step) for step in range(4)] == ["autoencoder", "autoencoder", "network", "network"]
    reached = {}
    for step in (0, 2):
        objective.before_update(step)
        objective.zero_grad()
        losses = objective(batch)
        assert set(losses.keys()) == set(objective.out_keys)
        sum(value for key, value in losses.items() if key.startswith("loss_")).backward()
        named = objective.world_model_params.flatten_keys(".").items()
        reached[step] = {name.split(".")[0] for name, value in named if value.grad is not None and value.grad.any()}
    assert reached == {0: {"tokenizer"}, 2: {"network", "reward_end"}}
    objective.stage_steps = (0,)
    assert objective.stage_at(0) == "network" and objective.plan({"autoencoder": 3, "network": 4}) == 7


def test_a_wider_spread_of_latents_costs_what_the_divergence_says():
    torch.manual_seed(0)
    model = Oasis(OasisConfig.tiny(**OASIS, kl_scale=0.5), SMALL, OneHot(3))
    objective, batch = model.objective(), sequences()
    losses = objective(batch)
    pixels = torch.cat([batch["pixels"], batch["next", "pixels"][:, -1:]], 1).flatten(0, 1)
    moments = model.tokenizer.moments(pixels.permute(0, 3, 1, 2) / 127.5 - 1.0)
    kl = torch.distributions.kl_divergence(
        torch.distributions.Normal(moments.mean, (0.5 * moments.log_variance).exp()),
        torch.distributions.Normal(0.0, 1.0),
    )
    torch.testing.assert_close(losses["loss_kl"], 0.5 * kl.mean(), rtol=1e-4, atol=1e-5)


def test_the_published_world_reads_25_actions_and_has_its_size():
    seen = Composite(pixels=Bounded(0, 255, (360, 640, 3), dtype=torch.uint8))
    with torch.device("meta"):
        model = Oasis(OasisConfig.oasis_500m(), seen, OneHot(len(MINECRAFT_KEYS)))
    assert model.frame_shape == (16, 18, 32) and model.capabilities == {"decode", "objective"}
    info, _ = load("oasis_checkpoint_keys")
    # The published file counts the frequencies of its rotary positions, 16 and 32, too.
    assert sum(p.numel() for p in model.network.parameters()) + 48 == info["dit_params"]
    assert sum(p.numel() for p in model.tokenizer.parameters()) == info["vae_params"]


def files(tmp_path):
    found = {}
    for name, vector in (("oasis500m", "oasis_dit_tiny"), ("vit-l-20", "oasis_vit_vae_tiny")):
        _, tensors = load(vector)
        found[name] = {key[2:]: value for key, value in tensors.items() if key.startswith("w/")}
    # Latents of the one vector have 3 numbers, of the other 4.
    for key in ("quant_conv.weight", "quant_conv.bias"):
        found["vit-l-20"][key] = torch.cat([found["vit-l-20"][key]] * 2)[:8]
    found["vit-l-20"]["post_quant_conv.weight"] = torch.ones(32, 4)
    for name, weights in found.items():
        torch.save(weights, tmp_path / f"{name}.pt")
    return found


def test_a_folder_of_the_published_files_is_read(tmp_path):
    found = files(tmp_path)
    sizes = {"patch": 4, "latent": 4, "encoder": (32, 2, 2), "decoder": (32, 2, 2), "scale": 0.5}
    config = OasisConfig.oasis_500m(**{f"network.autoencoder.{key}": value for key, value in sizes.items()})
    config = config.vary(
        **{f"network.transformer.{key}": value for key, value in (("dim", 32), ("depth", 2), ("heads", 2))}
    )
    specs = {
        "observation_spec": Composite(pixels=Bounded(0, 255, (16, 24, 3), dtype=torch.uint8)),
        "action_spec": Bounded(-1.0, 1.0, (5,)),
    }
    model = load_official("open-oasis", tmp_path, config=config, **specs)
    assert isinstance(model, Oasis) and not model.training
    weight = found["oasis500m"]["blocks.1.t_attn.to_qkv.weight"]
    assert torch.equal(model.network.blocks[1].time.attention.qkv.weight, weight)
    assert torch.equal(model.tokenizer.autoencoder.pixels.bias, found["vit-l-20"]["predictor.bias"])
    (tmp_path / "vit-l-20.pt").unlink()
    with pytest.raises(BadModelError, match="a file of the network and one of the autoencoder"):
        load_official("open-oasis", tmp_path, config=config, **specs)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"frames": 1}, "at least 2 frames"),
        ({"network.autoencoder.patch": 5}, "do not fill"),
        ({"network.transformer.patch": 3}, "do not fill"),
        ({"steps": 0}, "step"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Oasis(OasisConfig.tiny(**{**OASIS, **changes}), SMALL, OneHot(3))


def test_losses_that_cannot_be_are_refused(model):
    for config in (OasisLossConfig(autoencoder_steps=-1), OasisLossConfig(kl_scale=-1.0)):
        with pytest.raises(ValueError, match="at least 0"):
            type(model.objective())(model, config)
