"""Small value-equivalent models, and streams of transitions for them."""

import torch
from tensordict import TensorDict
from torchrl.data import Composite, OneHot, Unbounded

from wmcomponents.models import EfficientZero, EfficientZeroConfig, MuZero, MuZeroConfig

SPEC = Composite(observation=Unbounded(3))
SMALL = {"units": 8, "unroll": 3, "starts": 0, "td_steps": 2, "discount": 0.5}


def sequences(*, inits=(), ends=(), batch=2, steps=6, actions=None):
    """Transitions of one stream: episodes begin at ``inits``, terminate with ``ends``."""
    torch.manual_seed(0)
    td = TensorDict(batch_size=[batch, steps])
    td["observation"] = torch.randn(batch, steps, 3)
    td["action"] = torch.eye(2)[torch.randint(2, (batch, steps))] if actions is None else actions
    flags = torch.zeros(2, batch, steps, 1, dtype=torch.bool)
    flags[0, :, list(inits)] = True
    flags[1, :, list(ends)] = True
    td["is_init"] = flags[0]
    td["next"] = {
        "observation": torch.randn(batch, steps, 3),
        "reward": torch.arange(1.0, steps + 1).view(1, steps, 1).expand(batch, steps, 1).clone(),
        "terminated": flags[1],
        "done": flags[1],
    }
    return td


def muzero(spec=SPEC, **changes):
    torch.manual_seed(0)
    return MuZero(MuZeroConfig.tiny(**{**SMALL, **changes}), spec, OneHot(2))


def efficientzero(spec=SPEC, **changes):
    torch.manual_seed(0)
    return EfficientZero(EfficientZeroConfig.tiny(**{**SMALL, **changes}), spec, OneHot(2))
