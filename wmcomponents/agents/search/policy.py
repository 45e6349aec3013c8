"""A tree search as a TensorDict policy."""

from collections.abc import Sequence

import torch
from tensordict import NestedKey
from tensordict.nn.probabilistic import InteractionType, interaction_type
from torch import Tensor

from wmcomponents.agents.search.continued import Planning
from wmcomponents.component import Component
from wmcomponents.world_model import keys_of


class SearchPolicy(Component):
    """Acts by searching from the model's state; behind the filter (``LatentPolicy``) it acts in reality.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | the model's state keys | [*B, ...] | as its ``state_spec`` says | read |
        | "action_mask" | [*B, K] | bool, which choices may be taken | read, optional |
        | "is_init" | [*B, 1] | bool, where nothing is kept of the last move's tree | read, optional |
        | "action" | [*B, *action shape] | as the action spec says | written |
        | ("search", "policy") | [*B, A] | float, what the policy is to learn | written |
        | ("search", "value") | [*B, 1] | float, in env units | written |

    The last two are what ``MuZeroLoss`` and ``EfficientZeroLoss`` read. It explores where TorchRL's
    ``set_exploration_type`` is ``RANDOM``: noise at the root, and an action in proportion to its visits where the
    search chooses so. Elsewhere it plays its best. Sampled actions and the model's z are drawn in both.

    Args:
        planning: a search, or a :class:`ContinuedSearch`.
        seed: of all that is drawn; fresh entropy if not given.
        in_keys: replaces the keys read, in the order above.
        out_keys: replaces the keys written.

    Example:
        >>> import torch
        >>> from torchrl.data import Composite, OneHot, Unbounded
        >>> from wmcomponents.agents.search import SearchPolicy, muzero_search
        >>> from wmcomponents.models import MuZero, MuZeroConfig
        >>> model = MuZero(MuZeroConfig.tiny(), Composite(observation=Unbounded(4)), OneHot(2))
        >>> policy = SearchPolicy(muzero_search(model, simulations=5), seed=0)
        >>> [tuple(out.shape) for out in policy(**model.initial_state((3,)))]
        [(3, 2), (3, 2), (3, 1)]
    """

    def __init__(
        self,
        planning: Planning,
        *,
        seed: int | None = None,
        in_keys: Sequence[NestedKey] | None = None,
        out_keys: Sequence[NestedKey] = ("action", ("search", "policy"), ("search", "value")),
    ) -> None:
        self._states = keys_of(planning.search.searched.model.state_spec)
        reads = [*self._states, "action_mask", "is_init"]
        chosen = list(reads if in_keys is None else in_keys)
        if len(chosen) != len(reads):
            raise ValueError(f"a search reads {reads}; give new names one for one, in this order.")
        super().__init__(chosen, out_keys, optional_keys=chosen[len(self._states) :])
        self.planning = planning
        self.model = planning.search.searched.model
        self._seed = seed
        self._generator: torch.Generator | None = None

    def generator(self, device: torch.device) -> torch.Generator:
        """The generator of all that is drawn, on a device."""
        if self._generator is None or self._generator.device != device:
            self._generator = torch.Generator(device)
            self._generator.seed() if self._seed is None else self._generator.manual_seed(self._seed)
        return self._generator

    def compute(self, *tensors: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Search from states.

        Args:
            *tensors: the entries of ``in_keys``, ``[*B, ...]`` each.

        Returns:
            The entries of ``out_keys``.
        """
        *values, mask, is_init = tensors
        state = {key: value for key, value in zip(self._states, values, strict=True) if value is not None}
        key = self._states[0]
        lead = state[key].shape[: state[key].ndim - len(self.model.state_spec[key].shape)]
        noise = self.planning.search.draw(lead, self.generator(state[key].device))
        if interaction_type() is not InteractionType.RANDOM:
            noise = noise._replace(root={}, ties=None)
        plan = self.planning.plan(state, mask=mask, noise=noise, is_init=is_init)
        return plan.action, plan.target, plan.value
