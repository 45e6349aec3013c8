"""A recurrent actor-critic as a policy: in a dream and in reality it reads frames, and keeps its memory."""

from collections.abc import Callable
from typing import Any

import torch
from tensordict.nn.probabilistic import InteractionType, interaction_type
from torch import Tensor, nn
from torchrl.data import Composite, TensorSpec, Unbounded
from torchrl.envs import TensorDictPrimer

from wmcomponents.agents.actor_critic.action_distributions import CategoricalActions
from wmcomponents.agents.actor_critic.recurrent import RecurrentActorCritic
from wmcomponents.codecs import ActionVector
from wmcomponents.component import Component
from wmcomponents.nn.mode import EvalMode
from wmcomponents.tokenizers import ImageTokenizer

View = Callable[[Tensor], Tensor]
"""What is read of real frames ``[N, H, W, C]``: frames again."""


class Reconstruction(nn.Module):
    """Frames as a tokenizer sees them: written as tokens, and read back. IRIS's policy reads reality so.

    Args:
        tokenizer: of the world model; used in eval mode, not registered, and never changed.
    """

    def __init__(self, tokenizer: ImageTokenizer[Any]) -> None:
        super().__init__()
        self._tokenizer, self._mode = (tokenizer,), EvalMode(tokenizer)

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Tensor:
        """Frames ``[N, H, W, C]`` of frames ``[N, H, W, C]``."""
        (tokenizer,) = self._tokenizer
        with self._mode:
            return tokenizer.pixels(tokenizer.tokens(pixels))


class RecurrentPolicy(Component):
    """A policy that reads frames, one after another, and remembers.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | image key | [*B, H, W, C] | as the environment shows it | read |
        | "is_init" | [*B, 1] | bool | read, optional: the memory is empty there |
        | "hx", "cx" | [*B, units] | float | read, optional: the memory is empty without them |
        | ("noise", "action") | [*B, 1] | float, uniform | read, optional |
        | "action" | [*B, *action shape] | as the action spec says | written |
        | "sample_log_prob" | [*B] | float, of the action taken | written |
        | ("next", "hx"), ("next", "cx") | [*B, units] | float | written, as TorchRL's recurrent modules do |

    Without noise it follows TorchRL's ``set_exploration_type``: a draw from torch's global generator where that is
    ``RANDOM``, else the likeliest action.

    Args:
        network: the actor-critic, shared.
        action_spec: spec of one action, one choice.
        image_key: key of the frame.
        epsilon: share of uniform choices among those that are drawn.
        view: what is read of a frame, such as :class:`Reconstruction`; the frame itself if not given.

    Example:
        >>> from torchrl.data import OneHot
        >>> from wmcomponents.nn import PooledConvs
        >>> policy = RecurrentPolicy(RecurrentActorCritic(PooledConvs(), 1024, actions=4, units=16), OneHot(4))
        >>> action, log_prob, hx, cx = policy(pixels=torch.zeros(2, 64, 64, 3, dtype=torch.uint8))
        >>> action.shape, hx.shape
        (torch.Size([2, 4]), torch.Size([2, 16]))

    Raises:
        ValueError: if ``epsilon`` is no share.
    """

    def __init__(
        self,
        network: RecurrentActorCritic,
        action_spec: TensorSpec,
        *,
        image_key: str = "pixels",
        epsilon: float = 0.0,
        view: View | None = None,
    ) -> None:
        if not 0.0 <= epsilon <= 1.0:
            raise ValueError(f"epsilon is a share in [0, 1]; got {epsilon}.")
        read = [image_key, "is_init", "hx", "cx", ("noise", "action")]
        written: Any = ["action", "sample_log_prob", ("next", "hx"), ("next", "cx")]
        super().__init__(read, written, optional_keys=read[1:])
        self.network, self.view = network, view
        self.action_vector = ActionVector(action_spec)
        self.actions = CategoricalActions([self.action_vector.size], unimix=epsilon)
        size = torch.Size([network.units])
        self.memory_spec = Composite(hx=Unbounded(size), cx=Unbounded(size))
        self.spec = Composite(action=action_spec.clone())

    def compute(
        self,
        pixels: Tensor,
        is_init: Tensor | None = None,
        hx: Tensor | None = None,
        cx: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Action ``[*B, ...]``, its log probability ``[*B]``, and the memory behind the frame, 2 x ``[*B, units]``."""
        lead = pixels.shape[:-3]
        frames = pixels.reshape(-1, *pixels.shape[-3:])
        if hx is None or cx is None:
            hx, cx = self.network.initial_state(len(frames), frames.device)
        memory = [each.reshape(len(frames), -1) for each in (hx, cx)]
        if is_init is not None:
            memory = [each.masked_fill(is_init.reshape(-1, 1), 0.0) for each in memory]
        step = self.network.step(frames if self.view is None else self.view(frames), *memory)
        if noise is None and interaction_type() is InteractionType.RANDOM:
            noise = torch.rand(len(frames), 1, device=frames.device)
        raw = step.logits
        vector = self.actions.mode(raw) if noise is None else self.actions.sample(raw, noise.reshape(-1, 1))
        vector = vector.detach()
        found = (self.action_vector.inverse(vector), self.actions.log_prob(raw, vector), step.hx, step.cx)
        return tuple(each.reshape((*lead, *each.shape[1:])) for each in found)

    def make_tensordict_primer(self) -> TensorDictPrimer:
        """The transform of an environment that carries the memory from step to step; empty where an episode begins."""
        return TensorDictPrimer(self.memory_spec.clone(), default_value=0.0, expand_specs=True)
