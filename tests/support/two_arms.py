"""A world in pixels in which one arm pays, told by hand."""

import torch
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from wmcomponents import Prediction, WorldModel
from wmcomponents.codecs import ActionVector


class TwoArms(WorldModel):
    """A grey image of the last action; the second arm pays 1. Every step ends the episode with probability ``end``."""

    def __init__(self, end=0.0, shape=(8, 8, 3), dtype=torch.uint8):
        super().__init__(
            observation_spec=Composite(pixels=Bounded(0, 255 if dtype is torch.uint8 else 1, shape, dtype=dtype)),
            action_spec=OneHot(2),
            state_spec=Composite(last=Unbounded(1)),
            noise_spec=Composite(z=Bounded(0, 1, torch.Size([1]))),
        )
        self.gain = torch.nn.Parameter(torch.ones(()))
        self.end, self.action_vector = end, ActionVector(OneHot(2))

    def observe(self, state, action, observation, is_init, noise):
        return {"last": (observation["pixels"][..., 0, 0, :1].float() > 0).float()}

    def imagine(self, state, action, noise):
        arm = self.action_vector(action)[..., 1:]
        return Prediction({"last": arm.clone()}, self.gain * arm, torch.full_like(arm, 1.0 - self.end))

    def decode(self, state):
        leaf = self.observation_spec["pixels"]
        on = state["last"].reshape(*state["last"].shape[:-1], 1, 1, 1) * (200 if leaf.dtype is torch.uint8 else 1)
        return {"pixels": on.expand(*on.shape[:-3], *leaf.shape).to(leaf.dtype).clone()}


def sequences(model, rows=16, length=4, seed=0):
    """Random real sequences ``[rows, length]`` in TorchRL's layout."""
    from tensordict import TensorDict

    generator = torch.Generator().manual_seed(seed)
    leaf = model.observation_spec["pixels"]
    high = 256 if leaf.dtype is torch.uint8 else 2
    choices = model.action_spec.shape[-1]
    first = torch.zeros(rows, length, 1, dtype=torch.bool)
    first[:, 0] = True
    return TensorDict(
        {
            "pixels": torch.randint(high, (rows, length, *leaf.shape), generator=generator).to(leaf.dtype),
            "action": torch.eye(choices, dtype=model.action_spec.dtype)[
                torch.randint(choices, (rows, length), generator=generator)
            ],
            "is_init": first,
        },
        [rows, length],
    )
