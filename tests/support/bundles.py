"""Small models of every family and what they saw and dreamt: written by one version, replayed by another.

This file is run with the code of the version that writes (``python tests/support/bundles.py OUT``, with that version's
checkout on ``PYTHONPATH``); the catalogue speaks of configs as version e92d95a named their fields.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tensordict import TensorDict
from torch import Tensor, nn
from torchrl.data import Binary, Bounded, Categorical, Composite, OneHot, TensorSpec, Unbounded, UnboundedDiscrete

ROWS, STEPS = 4, 3
"""Of a record: episodes side by side, and steps that are seen and then dreamt."""


def image(*shape: int) -> TensorSpec:
    """Spec of an image."""
    return Bounded(0, 255, shape, dtype=torch.uint8)


NUMBERS = Composite(observation=Unbounded(3))
BOARD = Composite(board=UnboundedDiscrete(shape=(3, 3, 2), dtype=torch.bool))
MIXED = Composite(
    board=UnboundedDiscrete(shape=(3, 3, 2), dtype=torch.bool),
    camera=image(16, 16, 3),
    choice=OneHot(3),
    position=Unbounded(3),
)
TASKED = Composite(observation=Unbounded(3), task=Categorical(3))
THROTTLE = Bounded(-2, 2, (2,))

Made = tuple[str, dict[str, Any], Composite, TensorSpec]
"""Family, what differs from the default config, and the specs of observation and action."""

State = dict[str, Tensor]
Record = dict[str, Tensor]
"""By ``name`` or ``kind.key``, each ``[steps, rows, ...]``."""

RSSM = {"deter": 8, "hidden": 6, "units": 8, "layers": 1, "mults": (1, 2), "depth": 2}
GAUSSIAN = {**RSSM, "stoch": 3, "min_std": 0.2}
LEVELS = {"cond": 8, "depths": (1, 1), "channels": (4, 8), "attends": (False, True)}
NOISE = {"sigma_data": 0.4, "sigma_offset": 0.2, "loc": -0.6, "scale": 1.1, "sigma_min": 0.003, "sigma_max": 15.0}
TOKENS = {"grid": 2, "channels": 32, "blocks": 1, "attention": (), "latent_channels": 8, "vocabulary": 16, "code": 8}
TOKENS |= {"layers": 2, "heads": 2, "dim": 16, "max_frames": 3}
CHANGES = {"mults": (1,), "halves": (True,), "channels": 32, "features": 2, "context": 3, "action_channels": 2}
CHANGES |= {"vocabulary": 16, "code": 8, "layers": 2, "heads": 2, "frame_features": 1}
CHANGES |= {"max_blocks": 8}  # more than are dreamt: version e92d95a began the context anew one block too early
VALUED = {"support": 5, "reward_support": 3, "blocks": 1, "channels": 4, "reduced": 2, "reduced_heads": (6,)}
VALUED |= {"continue_units": 6, "unroll": 4, "td_steps": 3, "discount": 0.95, "state_gradient": 0.75, "starts": 2}
VALUED |= {"value_scale": 0.3, "continue_scale": 1.5, "target_interval": 50, "lr": 0.003, "weight_decay": 0.001}
MLPS = {"units": 8, "representation": (6,), "dynamics": (7,), "heads": (5,)}
STATES = {"units": 8, "hidden": 6, "action_units": 4, "state_blocks": 1, "state_heads": (5,)}
PREFIX = {"lstm": 4, "lstm_horizon": 2, "projection": 8, "bottleneck": 4}

CATALOGUE: dict[str, Made] = {
    "PlaNet": (
        "PlaNet",
        {**GAUSSIAN, "bits": 7, "norm": "keras_layer", "reward_layers": 1, "continues": True, "free_nats": 2.0}
        | {"kl_scale": 0.5, "reward_scale": 5.0, "overshooting": 2, "overshooting_scale": 0.7},
        MIXED,
        THROTTLE,
    ),
    "DreamerV1": (
        "DreamerV1",
        {**GAUSSIAN, "reward_layers": 1, "continue_layers": 2, "pcont": True, "discount": 0.9, "free_nats": 2.0}
        | {"kl_scale": 0.5, "continue_scale": 4.0},
        MIXED,
        OneHot(3),
    ),
    "DreamerV1-no-end": ("DreamerV1", {**GAUSSIAN, "vectors": "standardize"}, NUMBERS, THROTTLE),
    "DreamerV2": (
        "DreamerV2",
        {**RSSM, "groups": 4, "classes": 4, "norm": "keras_layer", "discount": 0.9, "balance": 0.7, "free_nats": 0.5}
        | {"kl_scale": 0.4, "continue_scale": 3.0, "lr": 3e-4},
        MIXED,
        OneHot(3),
    ),
    "DreamerV2-gaussian": (
        "DreamerV2",
        {**RSSM, "groups": 3, "latent": "gaussian", "min_std": 0.2, "rewards": "plain", "pcont": False}
        | {"vectors": "standardize"},
        NUMBERS,
        THROTTLE,
    ),
    "DreamerV3Preprint": (
        "DreamerV3Preprint",
        {**{key: value for key, value in RSSM.items() if key != "hidden"}, "groups": 4, "classes": 4, "bins": 11}
        | {"unimix": 0.02, "free_nats": 0.5},
        MIXED,
        THROTTLE,
    ),
    "DreamerV3": (
        "DreamerV3",
        {**RSSM, "groups": 4, "classes": 4, "blocks": 2, "bins": 11, "unimix": 0.02, "horizon": 50, "free_nats": 0.5},
        MIXED,
        OneHot(3),
    ),
    "DreamerV3-gaussian": (
        "DreamerV3",
        {**RSSM, "groups": 3, "blocks": 2, "bins": 11, "latent": "gaussian", "vectors": "standardize"},
        NUMBERS,
        THROTTLE,
    ),
    "DreamerV3-no-decoder": (
        "DreamerV3",
        {**RSSM, "groups": 4, "classes": 4, "blocks": 2, "bins": 11, "decoder": False},
        NUMBERS,
        OneHot(3),
    ),
    "WorldModels": (
        "WorldModels",
        {"latent": 4, "hidden": 8, "components": 2, "forget_bias": 0.5, "units": 8, "layers": 1, "head_layers": 1}
        | {"standardize": True, "begins": True, "features": ("z", "c", "h"), "kl_tolerance": 0.3, "vision_rate": 0.2}
        | {"reconstruction_scale": 4.0, "reward_scale": 2.0, "termination_weight": 10.0, "vision_steps": 30}
        | {"cycle_steps": 40, "temperature": 1.25},
        NUMBERS,
        OneHot(3),
    ),
    "WorldModels-image": (
        "WorldModels",
        {"latent": 4, "hidden": 8, "components": 2, "mixture": "vector", "channels": (2, 2, 2, 2)}
        | {"growth_channels": (8, 2, 2, 2), "dense_act": "relu"},
        Composite(pixels=image(64, 64, 3)),
        THROTTLE,
    ),
    "TDMPC2": (
        "TDMPC2",
        {"latent": 8, "encoder_units": 6, "units": 7, "members": 3, "group": 4, "bins": 11, "limit": 5.0}
        | {"dropout": 0.05, "episodic": True, "horizon": 2, "rho": 0.6, "episode_lengths": (200,)}
        | {"largest_discount": 0.99, "consistency_scale": 10.0, "reward_scale": 0.2, "value_scale": 0.3}
        | {"encoder_lr_scale": 0.4, "vectors": "standardize"},
        NUMBERS,
        THROTTLE,
    ),
    "TDMPC2-tasks": (
        "TDMPC2",
        {"latent": 8, "encoder_units": 6, "encoder_layers": 3, "units": 7, "members": 2, "group": 4, "bins": 11}
        | {"task_size": 4, "action_sizes": (2, 1, 2), "episode_lengths": (500, 100, 25)},
        TASKED,
        Bounded(-1, 1, (2,)),
    ),
    "TDMPC2-image": (
        "TDMPC2",
        {"latent": 8, "encoder_units": 6, "units": 7, "members": 2, "group": 4, "bins": 11, "channels": 2},
        Composite(pixels=image(52, 52, 3)),
        OneHot(3),
    ),
    "MuZero": (
        "MuZero",
        {
            **VALUED,
            **MLPS,
            "norm": "layer",
            "past": 2,
            "action_planes": "one_hot",
            "standardize": True,
            "continue_head": True,
            "skip": True,
        }
        | {"scale": "whole", "optimizer": "adam", "decay_rate": 0.5, "decay_steps": 100},
        NUMBERS,
        THROTTLE,
    ),
    "MuZero-two-players": (
        "MuZero",
        {**VALUED, "players": 2, "past": 1, "action_planes": "one_hot", "reward_support": 0},
        BOARD,
        OneHot(3),
    ),
    "MuZero-image": (
        "MuZero",
        {**VALUED, "past": 1, "downsample": "resnet", "scale": "none"},
        Composite(pixels=image(32, 32, 3)),
        Categorical(3),
    ),
    "EfficientZero": (
        "EfficientZero",
        {**VALUED, **STATES, **PREFIX, "norm": "layer", "frames": 1, "standardize": True, "continue_head": True}
        | {"optimizer": "adam", "consistency_scale": 1.0, "warmup": 10, "max_norm": 3.0, "decay_steps": 50},
        NUMBERS,
        THROTTLE,
    ),
    "EfficientZero-image": (
        "EfficientZero",
        {**VALUED, **PREFIX, "frames": 2, "scale": True, "shift": 2, "intensity": 0.1},
        Composite(pixels=image(32, 32, 3)),
        OneHot(3),
    ),
    "EfficientZero-board": (
        "EfficientZero",
        {**VALUED, **PREFIX, "frames": 2, "action_planes": "one_hot", "norm": "layer"},
        BOARD,
        OneHot(3),
    ),
    "IRIS": (
        "IRIS",
        {**TOKENS, "codes_from_data": True, "beta": 0.5, "dropout": 0.05, "tokenizer_steps": 30, "tokenizer_every": 3}
        | {"tokenizer_frames": 20, "tokenizer_rate": 2e-3, "absolute": 0.4, "squared": 0.6, "worst": 0.02}
        | {"revival": 60, "transformer_rate": 3e-3, "attention": (4,)},
        Composite(pixels=image(4, 4, 3)),
        OneHot(3),
    ),
    "IRIS-block-causal": (
        "IRIS",
        {**TOKENS, "causality": "block_causal"},
        Composite(pixels=image(2, 2, 1)),
        Categorical(3),
    ),
    "DeltaIRIS": (
        "DeltaIRIS",
        {**CHANGES, "beta": 0.1, "revival": 60, "dropout": 0.05, "tokenizer_steps": 30, "tokenizer_every": 3}
        | {"tokenizer_frames": 20, "tokenizer_rate": 2e-3, "tokenizer_decay": 0.01, "absolute": 0.4, "squared": 0.6}
        | {"worst": 0.02, "transformer_rate": 3e-3, "token_scale": 0.2, "reward_scale": 0.7, "termination_scale": 0.3},
        Composite(pixels=image(8, 8, 3)),
        OneHot(3),
    ),
    "DeltaIRIS-two-hot": (
        "DeltaIRIS",
        {**CHANGES, "tokens": 1, "rewards": "two_hot"},
        Composite(pixels=image(4, 4, 1)),
        Categorical(3),
    ),
    "Diamond": (
        "Diamond",
        {"context": 2, "autoregressive": 2, "segments": 3, "denoiser": {**LEVELS, **NOISE}, "lr": 2e-4}
        | {"sampler": {"steps": 2, "sigma_min": 0.5, "sigma_max": 4.0, "rho": 6.0, "order": 2}}
        | {"reward_end": {**LEVELS, "hidden": 8, "steps": 5, "windows": 3}}
        | {"weight_decay": 0.02, "warmup": 20, "max_norm": 2.0, "reward_max_norm": 50.0},
        Composite(pixels=image(8, 8, 3)),
        OneHot(3),
    ),
    "Diamond-upsampled": (
        "Diamond",
        {"context": 3, "reward_end": None, "denoiser": {**LEVELS, "cond": 12, "noised_context": True}}
        | {"sampler": {"steps": 1, "s_cond": 0.1}}
        | {
            "upsampler": {
                "factor": 2,
                "context": 2,
                "autoregressive": 2,
                "denoiser": {**LEVELS, "noised_context": True},
                "sampler": {"steps": 2, "s_churn": 1.0, "s_tmin": 0.1, "s_tmax": 5.0, "s_noise": 0.9},
            }
        },
        Composite(pixels=image(16, 16, 3)),
        Binary(2),
    ),
}
"""By the name of the folder: every family, and every form in which its weights, states or noise differ on disk."""


def write(folder: Path, name: str) -> None:
    """Write the model of one name, the states that it filtered last as its starts, and the record beside it.

    Args:
        folder: of all bundles.
        name: of :data:`CATALOGUE`.
    """
    torch.manual_seed(sorted(CATALOGUE).index(name))
    model = built(*CATALOGUE[name])
    given = drawn(model)
    told = replay(model, given)
    starts = {key: value[-1] for key, value in part(told, "seen").items()}
    model.save_pretrained(folder / name / "model", starts=starts)
    record = {key: value.detach().contiguous().clone() for key, value in {**given, **told}.items()}
    save_file(record, folder / name / "dream.safetensors")


def built(family: str, changes: Mapping[str, Any], observation_spec: Composite, action_spec: TensorSpec) -> Any:
    """A model of a family whose every weight shows in what it dreams, also those that begin at zero."""
    from wmcomponents import models

    config = getattr(models, f"{family}Config")(**{key: _config(key, value) for key, value in changes.items()})
    model = getattr(models, family)(config, observation_spec, action_spec).eval()
    model.prepare(
        TensorDict(
            {**_observations(observation_spec, (4, 8)), "next": {"reward": torch.randn(4, 8, 1)}}, batch_size=[4, 8]
        )
    )
    for module in model.modules():
        _scramble(module)
    if family == "DeltaIRIS":  # its next step reads the image, rounded: let what processors differ by round to the same
        with torch.no_grad():
            model.tokenizer.decoder[-1].weight.mul_(1 / 16)
            model.tokenizer.decoder[-1].bias.add_(0.5)
    return model


def drawn(model: Any) -> Record:
    """Observations, actions and noise for a few steps of a filter and of a dream."""
    lead = (STEPS, ROWS)
    is_init = torch.zeros(*lead, 1, dtype=torch.bool)
    is_init[0], is_init[-1, -1] = True, True  # one row's episode ends on the way
    given = {"is_init": is_init, "led": model.action_spec.expand(*lead, *model.action_spec.shape).rand()}
    given["action"] = model.action_spec.expand(*lead, *model.action_spec.shape).rand()
    given |= {f"observation.{key}": value for key, value in _observations(model.observation_spec, lead).items()}
    for kind, verb in (("filter_noise", "observe"), ("noise", "imagine")):
        for key, leaf in model.noise_spec[verb].items():
            draw = torch.rand if isinstance(leaf, Bounded) else torch.randn
            given[f"{kind}.{key}"] = draw(*lead, *leaf.shape)
    return given


@torch.no_grad()
def replay(model: Any, given: Record, before: Mapping[str, State] | None = None) -> Record:
    """What a model sees and dreams, given observations, actions and noise.

    Args:
        model: of any family.
        given: what :func:`drawn` gives, or a record that holds it.
        before: ``seen`` and ``dreamt``, states ``[steps, rows, ...]``: each step then begins where the record's did,
            so that what two processors round differently does not add up.

    Returns:
        States ``seen`` and ``dreamt``, and of the latter reward, continuation and all that the model shows of them.
    """
    told: dict[str, list[Tensor]] = {}
    state, steps = model.initial_state((ROWS,)), range(len(given["action"]))

    def keep(kind: str, after: State, step: int) -> State:
        for key, value in after.items():
            told.setdefault(f"{kind}.{key}", []).append(value)
        return after if before is None else {key: value[step] for key, value in before[kind].items()}

    for step in steps:
        shown, noise = at(given, "observation", step), at(given, "filter_noise", step)
        state = keep("seen", model.observe(state, given["led"][step], shown, given["is_init"][step], noise), step)
    for step in steps:
        out = model.imagine(state, given["action"][step], at(given, "noise", step))
        state = keep("dreamt", out.state, step)
        shows = {"reward": out.reward, "continue": out.cont}
        shows |= {verb: getattr(model, verb)(state) for verb in ("features", "value") if verb in model.capabilities}
        if "decode" in model.capabilities:
            shows |= {f"decoded.{key}": value for key, value in model.decode(state).items()}
        for name, value in shows.items():
            told.setdefault(name, []).extend([] if value is None else [value])
    return {name: torch.stack(values) for name, values in told.items() if values}


def part(record: Record, kind: str) -> dict[str, Tensor]:
    """The entries of one kind, by key."""
    return {name.removeprefix(f"{kind}."): value for name, value in record.items() if name.startswith(f"{kind}.")}


def at(record: Record, kind: str, step: int) -> dict[str, Tensor]:
    """The entries of one kind at one step."""
    return {key: value[step] for key, value in part(record, kind).items()}


def _config(key: str, value: Any) -> Any:
    """The entry of a config, which may be a config."""
    from wmcomponents import functional, models

    parts = {"denoiser": models.DenoiserConfig, "reward_end": models.RewardEndConfig}
    parts |= {"upsampler": models.UpsamplerConfig, "sampler": functional.EDMSampler}
    if not isinstance(value, dict):
        return value
    return parts[key](**{inner: _config(inner, entry) for inner, entry in value.items()})


def _observations(spec: Composite, lead: tuple[int, ...]) -> dict[str, Tensor]:
    """Random observations ``[*lead, ...]``; images of at most sixteen patches, which files hold in few bytes."""
    shown = {}
    for key, leaf in spec.items():
        shown[str(key)] = leaf.expand(*lead, *leaf.shape).rand()
        if leaf.dtype is torch.uint8:
            height, width, channels = leaf.shape
            patches = torch.randint(0, 256, (*lead, min(height, 4), min(width, 4), channels), dtype=torch.uint8)
            rows = patches.repeat_interleave(height // patches.shape[-3], -3)
            shown[str(key)] = rows.repeat_interleave(width // patches.shape[-2], -2)
    return shown


@torch.no_grad()
def _scramble(module: nn.Module) -> None:
    """Random values in what a module itself learns: multiples of 1/64, which files hold in few bytes."""
    for parameter in module.parameters(recurse=False):
        fan = parameter[0].numel() if parameter.ndim > 1 else 100
        fresh = torch.randn(parameter.shape) / fan**0.5 + (0 if parameter.ndim > 1 else parameter)
        parameter.copy_((fresh * 64).round() / 64)
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        module.running_mean.normal_(std=0.1)
        module.running_var.uniform_(0.8, 1.2)
    bins, out = getattr(module, "bins", None), getattr(module, "out", None)
    if bins is not None and getattr(out, "bias", None) is not None and out.bias.shape[-1] == len(bins):
        # Rewards of order one, as after training: far bins are huge, and what is left of their sum is rounding.
        far = bins.abs().log1p() if bins.max() > 100 else bins.abs()
        out.bias.copy_((-1.2 * far).expand_as(out.bias))


if __name__ == "__main__":
    torch.set_num_threads(1)
    for one in CATALOGUE:
        write(Path(sys.argv[1]), one)
