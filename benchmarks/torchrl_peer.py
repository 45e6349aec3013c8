"""TorchRL's DreamerV3 parts at the sizes of ours: what the benchmarks measure beside this library."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModule, TensorDictSequential
from torch import Tensor, nn
from torchrl.data import Bounded, Composite, Unbounded
from torchrl.envs import EnvBase
from torchrl.envs.model_based.dreamer import DreamerEnv
from torchrl.modules import DreamerV3MLP, SymExpTwoHot, WorldModelWrapper
from torchrl.modules.models.model_based import RSSMPosteriorV3, RSSMPriorV3, RSSMRolloutV3
from torchrl.objectives import DreamerV3ModelLoss

from wmcomponents.functional import symlog
from wmcomponents.models import DreamerV3Config

OBSERVATION, ACTION = 24, 6
"""Sizes of the vectors of a walker, as in the published comparisons."""

BINS = 255


@dataclass(frozen=True)
class Size:
    """One size of the world model, and our config of the same."""

    name: str
    deter: int
    hidden: int
    groups: int
    classes: int

    @property
    def stoch(self) -> int:
        """Flat size of the sample."""
        return self.groups * self.classes

    def config(self, **changes: Any) -> DreamerV3Config:
        """Our config of this size."""
        sizes = {"deter": self.deter, "hidden": self.hidden, "groups": self.groups, "classes": self.classes}
        return DreamerV3Config().vary(**{**sizes, "units": self.hidden, "depth": 4, **changes})


SIZES = {
    "mini": Size("mini", 32, 16, 4, 4),
    "small": Size("small", 512, 64, 32, 4),
    "12M": Size("12M", 2048, 256, 32, 16),
}
"""``mini`` is for the tests."""


def make_prior(size: Size) -> RSSMPriorV3:
    return RSSMPriorV3(
        action_shape=torch.Size([ACTION]),
        action_dim=ACTION,
        hidden_dim=size.hidden,
        rnn_hidden_dim=size.deter,
        num_categoricals=size.groups,
        num_classes=size.classes,
        recurrent_model="block_gru",
        unimix=0.01,
    )


def make_rollout(size: Size, embed: int) -> RSSMRolloutV3:
    """The filter over sequences, wired as its fast path asks for."""
    posterior = RSSMPosteriorV3(
        hidden_dim=size.hidden,
        rnn_hidden_dim=size.deter,
        num_categoricals=size.groups,
        num_classes=size.classes,
        obs_embed_dim=embed,
        use_rms_norm=True,
        unimix=0.01,
    )
    return RSSMRolloutV3(
        TensorDictModule(
            make_prior(size),
            in_keys=["state", "belief", "action"],
            out_keys=[("next", "prior_logits"), ("next", "state"), ("next", "belief")],
        ),
        TensorDictModule(
            posterior,
            in_keys=[("next", "belief"), ("next", "encoded_latents")],
            out_keys=[("next", "posterior_logits"), ("next", "state")],
        ),
    )


class RewardMean(nn.Module):
    """Reward logits of one hidden layer, decoded."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.net = DreamerV3MLP(size.stoch + size.deter, BINS, depth=1, num_cells=size.hidden, outscale=0.0)
        self.decode = SymExpTwoHot(BINS)

    def forward(self, state: Tensor, belief: Tensor) -> Tensor:
        """The expected reward, ``[*B, 1]``."""
        return self.decode(self.net(state, belief))


class _Specs(EnvBase):
    """Only there to tell a ``DreamerEnv`` its specs."""

    def __init__(self, size: Size, device: str) -> None:
        super().__init__(device=device)
        leaves = {"state": Unbounded(size.stoch), "belief": Unbounded(size.deter)}
        self.observation_spec = Composite(leaves, device=torch.device(device))
        self.action_spec = Bounded(-1, 1, torch.Size([ACTION]), device=device)
        self.reward_spec = Unbounded(1, device=device)

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: Any) -> TensorDictBase:
        raise NotImplementedError

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        raise NotImplementedError

    def _set_seed(self, seed: int | None) -> None:
        raise NotImplementedError


def make_dreamer_env(size: Size, device: str = "cpu") -> DreamerEnv:
    """The environment that TorchRL's Dreamer losses imagine in: prior and reward head."""
    transition = TensorDictModule(
        make_prior(size), in_keys=["state", "belief", "action"], out_keys=["_", "state", "belief"]
    )
    reward = TensorDictModule(RewardMean(size), in_keys=["state", "belief"], out_keys=["reward"])
    env = DreamerEnv(
        world_model=WorldModelWrapper(transition, reward),
        prior_shape=torch.Size([size.stoch]),
        belief_shape=torch.Size([size.deter]),
        device=device,
    )
    env.set_specs_from_env(_Specs(size, device))
    return env


class _Symlog(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return symlog(x)


def make_loss(size: Size, scan: bool) -> DreamerV3ModelLoss:
    """World model and loss of the reference recipe for vectors: separate KL terms, continue head, uniform mixing."""
    rollout = make_rollout(size, size.hidden)
    if scan:
        rollout.compile_rollout("scan")
    feat, units = size.stoch + size.deter, size.hidden
    # The encoder's input passes symlog; the loss compares symlog(target) with symlog(prediction).
    encoder = nn.Sequential(_Symlog(), DreamerV3MLP(OBSERVATION, None, depth=3, num_cells=units))
    latents: Any = [("next", "state"), ("next", "belief")]
    parts: list[Any] = [
        TensorDictModule(encoder, in_keys=[("next", "pixels")], out_keys=[("next", "encoded_latents")]),
        rollout,
        TensorDictModule(DreamerV3MLP(feat, OBSERVATION, 3, units), latents, [("next", "reco_pixels")]),
        TensorDictModule(DreamerV3MLP(feat, BINS, 1, units, outscale=0.0), latents, [("next", "reward_logits")]),
        TensorDictModule(DreamerV3MLP(feat, 1, 1, units), latents, [("next", "continue_pred")]),
    ]
    return DreamerV3ModelLoss(
        cast(Any, TensorDictSequential(*parts)),
        kl_mode="separate",
        unimix=0.01,
        lambda_continue=1.0,
        continue_target_scale=1 - 1 / 333,
    )


def make_batch(size: Size, batch: int, time: int, device: str = "cpu") -> TensorDict:
    """Sequences for :func:`make_loss`."""
    data = {
        "state": torch.zeros(batch, time, size.stoch),
        "belief": torch.zeros(batch, time, size.deter),
        "action": torch.rand(batch, time, ACTION) * 2 - 1,
        "is_init": torch.rand(batch, time, 1) < 0.02,
        "next": {
            "pixels": torch.randn(batch, time, OBSERVATION),
            "reward": torch.randn(batch, time, 1),
            "terminated": torch.zeros(batch, time, 1, dtype=torch.bool),
            "done": torch.zeros(batch, time, 1, dtype=torch.bool),
        },
    }
    return TensorDict(data, batch_size=[batch, time]).to(device)
