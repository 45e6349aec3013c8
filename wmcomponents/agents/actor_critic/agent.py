"""An imagined actor-critic as an agent: it learns in dreams from given states, and acts on latents."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModuleBase, TensorDictSequential
from torch import Tensor
from torch.optim import Optimizer

from wmcomponents.agents.actor_critic.imagination import ImaginationLoss
from wmcomponents.agents.actor_critic.step import take_step
from wmcomponents.agents.actor_critic.targets import replay_targets
from wmcomponents.agents.actor_critic.terms import critic_term
from wmcomponents.agents.agent import LearnsFrom
from wmcomponents.dream.experience import Experience
from wmcomponents.nn.mode import EvalMode
from wmcomponents.world_model import LatentPolicy, Needs, WorldModel

DREAMS = 256
"""Of an update, where nothing says how many."""


class ImaginationAgent:
    """Actor and critic of an :class:`ImaginationLoss`, with their optimiser.

    Args:
        loss: the actor-critic's objective in its world model.
        optimizer: over actor and critic; the paper's (``loss.make_optimizer()``) if not given.
        replay_scale: weight of the critic's error on real experience, beyond which each dream goes on (DreamerV3's
            replay value loss: 0.3); 0 learns from dreams alone.
        sample: draw the filter's z where the policy acts in reality; the mode otherwise.
        dreams: dreams of an update; if not given, one from every real step of the batch, and 256 without real data.
        schedule: factor on the learning rates at each update (from 0), such as ``LinearDecay``.
        explore: a TensorDict module that changes the actor's action in reality, such as TorchRL's
            ``AdditiveGaussianModule`` or ``EGreedyModule``.

    Raises:
        CapabilityError: if the loss's world model offers no features or no reward.
        ValueError: if a replay value loss is asked for with a number of dreams, or beside dreams that pay another
            reward than real experience (``uncertainty``).

    Example:
        >>> from torchrl.data import Composite, OneHot, Unbounded
        >>> from wmcomponents.agents.actor_critic import dreamer_v3_loss
        >>> from wmcomponents.models import DreamerV3, DreamerV3Config
        >>> model = DreamerV3(DreamerV3Config.tiny(), Composite(observation=Unbounded(4)), OneHot(2))
        >>> agent = ImaginationAgent(dreamer_v3_loss(model, units=16, horizon=3), dreams=8)
        >>> sorted(agent.learn(Experience(model)))[:3]
        ['dream_length', 'entropy', 'loss_actor']
    """

    needs: Needs = Needs(("features", "reward"))
    learns_from: LearnsFrom = "states"

    def __init__(
        self,
        loss: ImaginationLoss,
        *,
        optimizer: Optimizer | None = None,
        replay_scale: float = 0.0,
        sample: bool = True,
        dreams: int | None = None,
        schedule: Callable[[int], float] | None = None,
        explore: TensorDictModuleBase | None = None,
    ) -> None:
        if replay_scale and dreams is not None:
            raise ValueError("a replay value loss needs a dream from every real step: leave out dreams=.")
        if replay_scale and loss.uncertainty is not None and loss.uncertainty.reward is not None:
            raise ValueError(
                "dreams pay for uncertainty here, and real experience does not: a critic of both would learn neither. "
                "Pass replay_scale=0."
            )
        self.needs = loss.needs
        self.needs.check(loss.world_model, "an actor-critic in imagination")
        self.loss = loss
        self.optimizer = loss.make_optimizer() if optimizer is None else optimizer
        self.replay_scale, self.dreams, self.schedule = replay_scale, dreams, schedule
        self.updates = self._dreamed = 0
        self._rates = [group["lr"] for group in self.optimizer.param_groups]
        chain: list[Any] = [loss.actor, explore]
        acting: Any = loss.actor if explore is None else TensorDictSequential(*chain)
        self._real_policy = LatentPolicy(loss.world_model, acting, sample=sample, seed=0)

    @property
    def model(self) -> WorldModel:
        """The world model."""
        return self.loss.world_model

    @property
    def dream_policy(self) -> TensorDictModuleBase:
        """The actor: reads ``latent``, writes ``action``."""
        return self.loss.actor

    @property
    def real_policy(self) -> LatentPolicy:
        """The actor behind the model's filter."""
        return self._real_policy

    @property
    def dreamed_steps(self) -> int:
        """Steps dreamt in all updates."""
        return self._dreamed

    def learn(self, experience: Experience) -> dict[str, float]:
        """One update on dreams from every state of a batch.

        Args:
            experience: gives the states.

        Raises:
            DivergedError: if a loss is not finite; the weights are those of the update before.
        """
        if self.schedule is not None:
            for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
                group["lr"] = rate * self.schedule(self.updates)
        states = self._starts(experience)
        out = self.loss(states)
        if self.replay_scale and "ended" in states.keys() and states.ndim == 2:
            out["loss_replay_value"] = self.replay_scale * self._replay_value(states, out["imagined_return"])
        found = take_step(out, self.optimizer, self.updates)
        self.loss.after_update(self.updates)
        self.updates += 1
        self._dreamed += states.numel() * self.loss.horizon
        return found

    def _starts(self, experience: Experience) -> TensorDict:
        if not experience.with_data:
            return experience.states(DREAMS if self.dreams is None else self.dreams)
        states = experience.states()
        if self.dreams is None or self.dreams >= states.numel():
            return states
        generator = experience.generator
        chosen = torch.randperm(states.numel(), generator=generator, device=generator.device)[: self.dreams]
        return cast(TensorDict, states.reshape(-1)[chosen])

    def _replay_value(self, states: TensorDict, imagined: Tensor) -> Tensor:
        """The critic's error on what really followed the states ``[B, L]``."""
        model, loss = self.model, self.loss
        with torch.no_grad(), EvalMode(model):
            features = model.features({str(key): states[key] for key in loss.in_keys})
            slow = loss.slow_critic.mean(loss.slow_critic.raw(features)).squeeze(-1)
        known = [states[key].squeeze(-1) for key in ("reward", "terminated", "ended")]
        reward, terminated, ended = known
        targets = replay_targets(
            reward, terminated, ended, imagined.squeeze(-1), discount=loss.discount, lam=loss.targets.lam
        )
        regulariser = slow if loss.slow_scale else None
        return critic_term(loss.critic, loss.critic.raw(features), targets, regulariser, loss.slow_scale).mean()

    def state_dict(self) -> dict[str, Any]:
        """Weights, statistics, optimiser, counts and the dreams' generator."""
        return {
            "loss": dict(self.loss.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "updates": self.updates,
            "dreamed": self._dreamed,
            "generator": self.loss.generator.get_state(),
            "filter": self.real_policy.generator_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken."""
        self.loss.load_state_dict(state["loss"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.updates, self._dreamed = int(state["updates"]), int(state["dreamed"])
        self.loss.generator.set_state(state["generator"])
        self.real_policy.set_generator_state(state["filter"])
