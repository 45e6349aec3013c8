"""What a frozen video model is worth to a world of actions: an adapter beside it, its weights tuned, or neither."""

import time
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchrl.data import Composite, TensorDictReplayBuffer, TensorSpec

from benchmarks.fitting import REAL_STEPS, data
from benchmarks.pixel_worlds import MINATAR, WORLDS
from benchmarks.pixels import figures, held_against
from wmcomponents.data import action_spec, make_env, observation_spec
from wmcomponents.denoisers import AddedMixture
from wmcomponents.models import AVID, AVIDConfig, FilmUNetConfig
from wmcomponents.models.diffusion.avid.base import ContextVideoModel
from wmcomponents.models.loading import load
from wmcomponents.training import Trainer, seed_everything

LABELLED, LABELLED_SEED = 2_000, 500
"""Real steps whose actions are known, of episodes of their own."""

BASE_UPDATES, UPDATES, LENGTH, BATCH = 1_500, 900, 8, 8
"""Of the video model on films without actions; of what learns the actions; of both the steps and films of a batch."""

WAYS = {
    "adapter": "frozen, with AVID's adapter",
    "tuned": "all of its weights tuned",
    "nothing": "the same network from nothing",
    "base": "alone, which knows no actions",
}
"""What is made of the video model, in words."""


class Silent(nn.Module):
    """A video model that says 0: what is added to it is all there is."""

    def forward(self, noisy: Tensor, level: Tensor, context: Tensor) -> Tensor:
        """Zeros of the films' shape."""
        return torch.zeros_like(noisy)


def specs() -> tuple[Composite, TensorSpec]:
    """Of the game."""
    env = make_env(MINATAR, **WORLDS[MINATAR].options)
    found = observation_spec(env), action_spec(env)
    env.close()
    return found


def films(seed: int, steps: int, folder: Path) -> TensorDictReplayBuffer:
    """Real steps of random play, collected once."""
    return data(MINATAR, seed, steps, LENGTH, BATCH, folder, **WORLDS[MINATAR].options)


def base_of(seed: int, folder: Path) -> nn.Module:
    """The video model, fitted to films without their actions, or what was fitted before."""
    home = folder / f"AVID-base-{seed}"
    if not (home / "model").is_dir():
        seed_everything(seed)
        model = AVID(AVIDConfig.tiny(base_steps=BASE_UPDATES), *specs())
        trainer = Trainer(model, films(seed, REAL_STEPS, folder), out=home, seed=seed, progress=False)
        trainer.train(BASE_UPDATES)
        model.save_pretrained(home / "model")
    return cast(AVID, load(home / "model")).base


def world(way: str, base: nn.Module) -> AVID:
    """What is made of the video model.

    Args:
        way: of ``WAYS``.
        base: the fitted video model.
    """
    config = AVIDConfig.tiny(base_steps=0, base=None)
    if way == "adapter":
        return AVID(config, *specs(), base=base)
    if way == "base":  # an adapter that adds nothing yet
        return AVID(config.vary(mixture="added"), *specs(), base=base)
    whole = config.vary(mixture="added", adapter=AVIDConfig.tiny().network.base or FilmUNetConfig())
    model = AVID(whole, *specs(), base=Silent())
    with torch.no_grad():
        cast(AddedMixture, model.adapter.mixture).map.weight.copy_(torch.eye(model.adapter.channels))
    if way == "tuned":
        widen(model.adapter.network, cast(ContextVideoModel, base).network)
    return model


@torch.no_grad()
def widen(network: nn.Module, given: nn.Module) -> None:
    """Weights of a network that reads less; what it does not read counts for nothing at first.

    Args:
        network: takes the weights.
        given: has them, those of fewer columns or channels that are read.
    """
    own = dict(network.named_parameters())
    for name, value in given.named_parameters():
        own[name].zero_()
        own[name][tuple(slice(size) for size in value.shape)] = value


def adapted(way: str, seed: int, folder: Path) -> dict[str, Any]:
    """A world that knows the actions of few labelled steps, held against reality.

    Args:
        way: of ``WAYS``.
        seed: of data and fits.
        folder: what is kept.
    """
    base = base_of(seed, folder)
    seed_everything(seed)
    model, begin, trained, begun = world(way, base), time.process_time(), 0, 0
    if way != "base":
        labelled = films(seed + LABELLED_SEED, LABELLED, folder)
        trainer = Trainer(model, labelled, out=folder / f"AVID-{way}-{seed}", seed=seed, progress=False)
        begun = trainer.steps
        trainer.train(UPDATES)
        trained = sum(p.numel() for p in model.adapter.parameters())
    took = time.process_time() - begin
    found = held_against(model.eval(), MINATAR, seed, folder, WORLDS[MINATAR])
    return {
        "way": way,
        "seed": seed,
        "trained": trained,
        "cpu_seconds": round(took, 1),
        "timed_from": begun,
        **figures(found),
    }
