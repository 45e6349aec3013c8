"""Weights of DIAMOND's golden vectors under the names of these parts."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torchrl.data import Binary, Bounded, Composite, OneHot

from tests.support.golden_vectors import load
from wmcomponents.denoisers import EDMDenoiser, FrameNetwork
from wmcomponents.heads import RewardEndHead
from wmcomponents.models import Diamond, DiamondConfig
from wmcomponents.models.diffusion.diamond.config import (
    DenoiserConfig,
    NoiseLevelConfig,
    RewardEndConfig,
    UpsamplerConfig,
)
from wmcomponents.models.diffusion.diamond.official import our_name
from wmcomponents.pretrained import load_mapped


def weights(vectors: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    return {key.removeprefix("w/" + prefix): value for key, value in vectors.items() if key.startswith("w/")}


def loaded(module: nn.Module, vectors: Mapping[str, Tensor], prefix: str = "") -> nn.Module:
    """A module with the weights of a vector, channels last; every key lands."""
    official = weights(vectors, prefix)
    return load_mapped(module, official, [(r"(.+)", lambda match: our_name(match[1]))]).to(
        memory_format=torch.channels_last
    )


def channels_last(x: Tensor) -> Tensor:
    """``[..., C, H, W]`` as environments lay images out."""
    return x.movedim(-3, -1)


def one_hot(action: Tensor, classes: int) -> Tensor:
    return nn.functional.one_hot(action, classes).float()


def denoiser(name: str) -> tuple[EDMDenoiser, dict, dict[str, Tensor]]:
    """The denoiser of a vector, its json and its tensors."""
    info, vectors = load(name)
    c = info["config"]["inner_model"]
    acts = any("act_emb" in key for key in vectors)
    network = FrameNetwork(
        image_channels=c["img_channels"],
        context=c["num_steps_conditioning"] + (0 if acts else 1),
        action=c["num_actions"] if acts else 0,
        action_steps=c["num_steps_conditioning"],
        noised_context=any("noise_cond_emb" in key for key in vectors),
        cond=c["cond_channels"],
        depths=c["depths"],
        channels=c["channels"],
        attends=[bool(a) for a in c["attn_depths"]],
    )
    offset = info["config"].get("sigma_offset_noise", 0.3)
    loaded(network, vectors, "inner_model.")
    return EDMDenoiser(network, sigma_offset=offset), info, vectors


def reward_end(name: str) -> tuple[RewardEndHead, dict, dict[str, Tensor]]:
    """The model of reward and end of a vector, its json and its tensors."""
    info, vectors = load(name)
    c = info["config"]
    head = RewardEndHead(
        (c["img_size"], c["img_size"], c["img_channels"]),
        c["num_actions"],
        hidden=c["lstm_dim"],
        cond=c["cond_channels"],
        depths=c["depths"],
        channels=c["channels"],
        attends=[bool(a) for a in c["attn_depths"]],
    )
    return loaded(head, vectors), info, vectors


def world_model(name: str, vectors: Mapping[str, Tensor], info: dict) -> Diamond:
    """A world model around the denoiser, the upsampler or the model of reward and end of a vector."""
    c = info["config"]
    inner = c.get("inner_model", c)
    spread = c.get("sigma_distribution", {})
    levels = {
        "cond": inner["cond_channels"],
        "depths": tuple(inner["depths"]),
        "channels": tuple(inner["channels"]),
        "attends": tuple(bool(a) for a in inner["attn_depths"]),
    }
    is_csgo = name.startswith("csgo")
    denoiser = DenoiserConfig(
        **levels,
        sigma_offset=c.get("sigma_offset_noise", 0.3),
        noised_context=is_csgo,
    )
    noise = NoiseLevelConfig(loc=spread.get("loc", -0.4))
    context = inner.get("num_steps_conditioning", 2)
    if "rew_end" in name:
        pixels, prefix, part = (c["img_size"], c["img_size"]), "", "reward_end"
        config = DiamondConfig().vary(
            denoiser=DenoiserConfig(cond=8, depths=(1,), channels=(8,), attends=(False,)),
            reward_end=RewardEndConfig(hidden=c["lstm_dim"], **levels),
        )
    elif "upsampler" in name:
        pixels, prefix, part = (10, 14), "inner_model.", "upsampler"
        sizes = DenoiserConfig(cond=8, depths=(1,), channels=(8,), attends=(False,))
        upsampler = UpsamplerConfig(c["upsampling_factor"], context, denoiser)
        config = DiamondConfig().vary(
            context=2, denoiser=sizes, reward_end=None, upsampler=upsampler, upsampler_noise=noise
        )
    else:
        pixels, prefix, part = (
            tuple(vectors["in/obs" if "loss" in name else "in/prev_obs"].shape[-2:]),
            "inner_model.",
            "",
        )
        config = DiamondConfig().vary(context=context, denoiser=denoiser, reward_end=None, noise=noise)
    actions = inner["num_actions"]
    spec = Binary(actions) if is_csgo else OneHot(actions)
    model = Diamond(config, Composite(pixels=Bounded(0, 255, (*pixels, 3), dtype=torch.uint8)), spec)
    target = getattr(model, part) if part else model.denoiser
    loaded(target if part == "reward_end" else target.network, vectors, prefix)
    return model
