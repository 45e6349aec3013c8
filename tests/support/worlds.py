"""Small worlds for these tests: a point mass, its exact model, and data whose statistics are known."""

import importlib.util
from pathlib import Path

import torch
from tensordict import TensorDict
from torchrl.data import Composite, OneHot, Unbounded

from wmcomponents.world_model import Prediction, WorldModel

_FILE = Path(__file__).resolve().parents[2] / "examples" / "bring_your_own_model.py"
_SPEC = importlib.util.spec_from_file_location("bring_your_own_model", _FILE)
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)
PointMass = _MODULE.PointMass


def transitions(observation, following, action, reward, terminated=None, truncated=None, is_init=None) -> TensorDict:
    """``[B, T]`` sequences in TorchRL's layout."""
    batch = action.shape[:2]
    no = torch.zeros(*batch, 1, dtype=torch.bool)
    terminated = no if terminated is None else terminated
    truncated = no if truncated is None else truncated
    if is_init is None:
        is_init = no.clone()
        is_init[:, 1:] = (terminated | truncated)[:, :-1]
    flags = {"terminated": terminated, "truncated": truncated, "done": terminated | truncated}
    following = TensorDict({**following, "reward": reward, **flags}, batch)
    return TensorDict({**observation, "action": action, "is_init": is_init, "next": following}, batch)


def point_mass_sequences(batch=6, time=20, seed=0) -> TensorDict:
    """What really happens to a point mass that is pushed at random."""
    generator = torch.Generator().manual_seed(seed)
    model = PointMass()
    state = {"point": torch.randn(batch, 2, generator=generator) * 0.3}
    rows = []
    for _ in range(time):
        action = torch.rand(batch, 1, generator=generator) * 2 - 1
        after, reward, _ = model.imagine(state, action, None)
        rows.append((state["point"], after["point"], action, reward))
        state = after
    here, following, action, reward = (torch.stack(values, 1) for values in zip(*rows, strict=True))
    return transitions({"observation": here}, {"observation": following}, action, reward)


class Counter(WorldModel):
    """Counts its own steps; says so, and predicts the ends it was told."""

    def __init__(self, cont: float = 0.75) -> None:
        super().__init__(
            observation_spec=Composite(observation=Unbounded(1)),
            action_spec=OneHot(2),
            state_spec=Composite(count=Unbounded(1)),
            noise_spec=Composite(shake=Unbounded(1)),
        )
        self.cont = cont

    def observe(self, state, action, observation, is_init, noise):
        return {"count": observation["observation"].clone()}

    def imagine(self, state, action, noise):
        count = state["count"] + 1
        if noise is not None:
            count = count + noise["shake"]
        return Prediction({"count": count}, count.clone(), torch.full_like(count, self.cont))

    def decode(self, state):
        return {"observation": state["count"].clone()}


def counting_sequences(lengths=(8, 8), end_of_first=None) -> TensorDict:
    """Numbers 0, 1, 2, ... in each row; the first row may terminate at a step."""
    batch, time = len(lengths), lengths[0]
    here = torch.arange(time).float().view(1, time, 1).expand(batch, time, 1).clone()
    terminated = torch.zeros(batch, time, 1, dtype=torch.bool)
    if end_of_first is not None:
        terminated[0, end_of_first] = True
    action = torch.nn.functional.one_hot(torch.zeros(batch, time).long(), 2)
    return transitions({"observation": here}, {"observation": here + 1}, action, here + 1, terminated)
