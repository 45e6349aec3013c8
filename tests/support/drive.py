"""How the contract suites drive a model: its views, actions, start states and fake data."""

from collections.abc import Callable

import torch
from tensordict import TensorDict
from torch import Tensor
from torchrl.data import Bounded

from wmcomponents.dream import FixedStarts, MixtureStarts, PoolStarts, PriorStarts, ReplayStarts, Starts
from wmcomponents.world_model import State, WorldModel


def views(model: WorldModel) -> list[str]:
    """The views that a model offers."""
    decoded, latent = "decode" in model.capabilities, "features" in model.capabilities
    return ["decoded"] * decoded + ["latent"] * latent + ["both"] * (decoded and latent)


def view_of(model: WorldModel) -> str:
    return views(model)[0]


def is_continuous(model: WorldModel) -> bool:
    return isinstance(model.action_spec, Bounded)


def actions(model: WorldModel, *batch: int, seed: int = 0) -> Tensor:
    """Random actions ``[*batch, ...]``, the same for the same seed."""
    torch.manual_seed(seed)
    return model.action_spec.expand(*batch, *model.action_spec.shape).rand() if batch else model.action_spec.rand()


def some_states(model: WorldModel, count: int, seed: int = 0) -> State:
    """Different states: a few steps of the dream from the prior, each row under its own actions and noise."""
    generator = torch.Generator().manual_seed(seed)
    state = PriorStarts(model).sample(count, generator)
    noise = model.noise_source("imagine")
    with torch.no_grad():
        for step in range(3):
            state = model.imagine(state, actions(model, count, seed=seed + step), noise((count,), generator)).state
    return state


def sequences(model: WorldModel, batch: int = 3, time: int = 5, seed: int = 0) -> TensorDict:
    """Made-up real data in TorchRL's layout."""
    torch.manual_seed(seed)
    is_init = torch.zeros(batch, time, 1, dtype=torch.bool)
    is_init[:, 0] = True
    is_init[0, 2] = True
    content = model.observation_spec.expand(batch, time).rand().to_dict()
    return TensorDict(
        {**content, "action": actions(model, batch, time, seed=seed), "is_init": is_init}, batch_size=(batch, time)
    )


STARTS: dict[str, Callable[[WorldModel], Starts]] = {
    "prior": PriorStarts,
    "initial": lambda model: PriorStarts(model, steps=0),
    "pool": lambda model: PoolStarts(some_states(model, 7)),
    "fixed": lambda model: FixedStarts(some_states(model, 7)),
    "mixture": lambda model: MixtureStarts([PriorStarts(model), PoolStarts(some_states(model, 7))], [1.0, 3.0]),
    "replay": lambda model: ReplayStarts(model, lambda: sequences(model), pool_size=10, burn_in=2),
}
"""Every kind of starts of a model."""


def assert_same(one: dict, other: dict, **tolerance: float) -> None:
    assert set(one) == set(other)
    for key, value in one.items():
        torch.testing.assert_close(value, other[key], **tolerance, msg=lambda m, key=key: f"{key}: {m}")


def differ(one: dict, other: dict) -> bool:
    return any(not torch.equal(value, other[key]) for key, value in one.items())
