"""Learning behaviour in imagination: dream from real states, and improve actor and critic on what was dreamt."""

import contextlib
import copy
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, cast

import torch
from tensordict import NestedKey, TensorDict, TensorDictBase
from tensordict.nn import TensorDictParams, dispatch
from torch import Tensor, nn
from torch.optim import Optimizer
from torchrl.objectives import LossModule

from wmcomponents._arguments import whole
from wmcomponents.agents.actor_critic.actor import Actor
from wmcomponents.agents.actor_critic.estimators import GradientEstimator, Reinforce
from wmcomponents.agents.actor_critic.normalizers import PercentileNormalizer, ReturnNormalizer
from wmcomponents.agents.actor_critic.optimizers import ActorCriticOptimizer, OneLaProp
from wmcomponents.agents.actor_critic.targets import FutureReturn, ReturnTargets
from wmcomponents.agents.actor_critic.terms import actor_term, critic_term
from wmcomponents.agents.actor_critic.through_dynamics import check_gradient_through
from wmcomponents.dream.imagine import passed_through, rollout
from wmcomponents.dream.starts import model_device
from wmcomponents.dream.uncertainty import UNCERTAINTY, Uncertainty
from wmcomponents.heads import Head
from wmcomponents.nn.mode import EvalMode
from wmcomponents.objectives import ExponentialAverage, PeriodicCopy, copy_weights
from wmcomponents.objectives.weights import placed
from wmcomponents.world_model import Needs, State, WorldModel, items_of

SLOWLY = ExponentialAverage(0.02)
"""How DreamerV3's slow critic follows."""


class Dreamt(NamedTuple):
    """What a batch of dreams holds.

    Attributes:
        features: of s_0 .. s_H, ``[N, H + 1, F]``.
        vector: of a_0 .. a_{H-1}, ``[N, H, A]``.
        reward: received on arriving in s_0 .. s_H, ``[N, H + 1]``.
        cont: discount times the probability of going on from s_0 .. s_H, ``[N, H + 1]``.
        uncertainty: u(s_t, a_t) of each step, ``[N, H]``; ``None`` where it is not measured.
    """

    features: Tensor
    vector: Tensor
    reward: Tensor
    cont: Tensor
    uncertainty: Tensor | None = None


class ImaginationLoss(LossModule):
    r"""An actor-critic's objective on dreams that begin in given states.

    Dreams of H steps begin in every state of the batch; the world model stays as it is, its parameters get no gradient.
    What is a return, how its gradient reaches the actor, what an advantage is measured by, and what the critic follows,
    are parts; the papers' assemblies are :func:`dreamer_v1_loss`, :func:`dreamer_v2_loss` and :func:`dreamer_v3_loss`.

    Keys read: the model's state keys ``[*B, ...]``, any batch; where present ``reward`` ``[*B, 1]``, received on
    arriving there, and ``continue`` ``[*B, 1]``, the probability that the episode goes on from there (as DreamerV3
    predicts it), or ``terminated`` ``[*B, 1]``, whether it ended there for good.

    Keys written: ``loss_actor``, ``loss_critic``, means over dreams and steps; detached diagnostics ``return`` and
    ``value`` (means), ``return_scale``, ``entropy`` (nats), ``dream_length`` (steps that a dream is expected to last),
    and ``uncertainty`` (mean), where it is measured. Besides ``imagined_return`` ``[*B, 1]``, what each dream earned
    (the bootstrap of DreamerV3's replay value loss).

    Args:
        world_model: the model to dream in; offers ``features`` and ``reward`` (which :class:`Exploration
            <wmcomponents.dream.Exploration>` does without). Actor and critic are put on its device.
        actor: acts.
        critic: values features.
        targets: what a return is.
        estimator: how its gradient reaches the actor.
        normalizer: what advantages are divided by.
        follow: how the slow critic follows; ``None``: there is none.
        bootstrap: whose values returns are built on: the ``"critic"``'s own (DreamerV3), or the ``"slow"`` one's
            (DreamerV2).
        slow_scale: weight of the critic's distance from the slow one; 0 without.
        slow_target: what of the slow critic that is: its ``"value"`` (DreamerV3), or the ``"return"`` that is built on
            its values (STORM's code).
        entropy_scale: weight of the policy's entropy.
        horizon: H, steps of a dream.
        discount: :math:`\gamma`, multiplied with the model's probability of going on.
        uncertainty: what is measured of every dreamt step, and what becomes of its reward and its end, as in
            :func:`~wmcomponents.dream.imagine`: penalty (MOPO), early end (MOReL), bonus (Plan2Explore). A reward
            received on arriving in a start is judged as one that is known.
        optimizer: makes the optimiser; DreamerV3's if not given.
        seed: of the dreams.

    Raises:
        CapabilityError: if the model offers no features or no reward, the estimator needs a gradient through dreams
            that let none pass, or the model cannot tell the uncertainty that is asked for.
        ValueError: if returns are built on a slow critic and there is none, a gradient is to pass through actions that
            have none, or a number is out of range.
        KeyError: on call, if a state key is missing.
    """

    actor: Actor
    critic: Head
    slow_critic: Head

    def __init__(
        self,
        world_model: WorldModel,
        actor: Actor,
        critic: Head,
        *,
        targets: ReturnTargets | None = None,
        estimator: GradientEstimator | None = None,
        normalizer: ReturnNormalizer | None = None,
        follow: ExponentialAverage | PeriodicCopy | None = SLOWLY,
        bootstrap: Literal["critic", "slow"] = "critic",
        slow_scale: float = 1.0,
        slow_target: Literal["value", "return"] = "value",
        entropy_scale: float = 3e-4,
        horizon: int = 15,
        discount: float = 1.0 - 1.0 / 333,
        uncertainty: Uncertainty | None = None,
        optimizer: ActorCriticOptimizer | None = None,
        seed: int = 0,
    ) -> None:
        explores = uncertainty is not None and not uncertainty.needs_reward
        needs = Needs(("features",) if explores else ("features", "reward"))
        world_model.require(
            *needs.capabilities, driver="learning in imagination", remedy="write features() and predict rewards."
        )
        if uncertainty is not None:
            uncertainty.check(world_model)
            uncertainty.try_out(world_model)
        if slow_target not in ("value", "return"):
            raise ValueError(f"slow_target is 'value' or 'return'; got {slow_target!r}.")
        if follow is None and (bootstrap == "slow" or slow_scale):
            raise ValueError("a slow critic follows by follow=...; without one, bootstrap='critic' and slow_scale=0.")
        super().__init__()
        self.needs, self.uncertainty = needs, uncertainty
        self.actor, self.critic = actor, critic
        self.targets = FutureReturn() if targets is None else targets
        self.estimator = Reinforce() if estimator is None else estimator
        self.normalizer = PercentileNormalizer() if normalizer is None else normalizer
        if self.estimator.needs_dynamics:
            check_gradient_through(world_model, actor.action_vector)
        self.slow_critic = copy.deepcopy(critic).requires_grad_(False)
        self.follow, self.bootstrap = follow, bootstrap
        self.slow_scale, self.slow_target = slow_scale, slow_target
        self.entropy_scale, self.discount = entropy_scale, discount
        self.optimizer = OneLaProp() if optimizer is None else optimizer
        self.horizon = whole("horizon", horizon, 2, "a number of imagined steps, at least 2")
        self._world_model = (world_model,)  # in a tuple, so that it is no part of what is trained
        self._seed, self._generator = seed, cast("torch.Generator | None", None)
        self._states = [key for key, _ in items_of(world_model.state_spec)]
        told = _DIAGNOSTICS if uncertainty is None else (*_DIAGNOSTICS, UNCERTAINTY)
        self.out_keys = cast(Any, ["loss_actor", "loss_critic", *told, "imagined_return"])
        self.to(model_device(world_model))

    @property
    def world_model(self) -> WorldModel:
        """The model that is dreamt in."""
        return self._world_model[0]

    @property
    def in_keys(self) -> list[NestedKey]:
        """Keys read."""
        return [*self._states]

    @in_keys.setter
    def in_keys(self, value: Any) -> None:
        raise AttributeError("in_keys are the model's state keys.")

    def _forward_value_estimator_keys(self, **kwargs: Any) -> None:
        """No value is estimated by TorchRL's estimators here."""

    @property
    def generator(self) -> torch.Generator:
        """The generator of the dreams, on the actor's device: ``generator.manual_seed(0)`` repeats them."""
        device = next(self.actor.parameters()).device
        if self._generator is None or self._generator.device != device:
            self._generator = torch.Generator(device).manual_seed(self._seed)
        return self._generator

    def make_optimizer(self, lr: float | None = None, warmup: int | None = None) -> Optimizer:
        """The optimiser over actor and critic.

        Args:
            lr: learning rate of both; the paper's if not given.
            warmup: steps over which the rate grows from 0; the paper's if not given.
        """
        return self.optimizer.make(self.actor, self.critic, lr, warmup)

    def after_update(self, step: int) -> None:
        """Let the slow critic follow, after step ``step`` (from 0) was taken."""
        if self.follow is not None:
            self.follow.update(self.slow_critic, self.critic, step)

    def reset_slow_critic(self) -> None:
        """Make the slow critic equal to the critic, as at the beginning."""
        copy_weights(self.slow_critic, self.critic)

    def dream(self, start: TensorDictBase, *, mode: bool = False) -> Dreamt:
        """Dreams from every state of a batch ``[*B]``, flattened to N rows.

        Gradients reach the actions only where the estimator needs them.

        Args:
            start: state keys, and what is known of the states (``reward``, ``continue`` or ``terminated``).
            mode: take the most likely z and action everywhere, in place of drawing them.

        Raises:
            KeyError: if a state key is missing.
        """
        model, state = self.world_model, self._start(start)
        rows = len(next(iter(state.values())))
        noise, actions = None, self.actor.distribution
        if not mode:
            noise = model.noise_source("imagine")((self.horizon, rows), self.generator)
            action_noise = iter(actions.draw((self.horizon, rows), self.generator))
        vectors: list[Tensor] = []
        seen: list[Tensor] = []

        def act(now: State) -> Tensor:
            seen.append(model.features(now))
            raw = self.actor.raw(seen[-1].detach())
            vectors.append(actions.mode(raw) if mode else actions.sample(raw, next(action_noise)))
            known = self.actor.action_vector
            return known.relaxed(vectors[-1]) if self.estimator.needs_dynamics else known.inverse(vectors[-1])

        with self._differentiable(), frozen(model), EvalMode(model):
            unknown = None
            if self.uncertainty is None:
                # States may hold a transformer's cache: of each only what the policy reads is kept.
                last, rewards, conts = passed_through(model, act, state, self.horizon, noise)
                seen.append(model.features(last))
            else:
                states, taken, rewards, conts = rollout(model, act, state, self.horizon, noise)
                seen.append(model.features({key: value[:, -1] for key, value in states.items()}))
                before = {key: value[:, :-1] for key, value in states.items()}
                unknown, rewards, conts = self.uncertainty.judged_dream(model, before, taken, rewards, conts)
            features = torch.stack(seen, 1)
        if rewards is None:
            raise ValueError(f"{type(model).__name__} says that it predicts rewards, and returned none.")
        first_reward, first_cont = self._first(start, rewards[:, :1])
        going_on = torch.ones_like(rewards) if conts is None else conts
        cont = self.discount * torch.cat([first_cont, going_on], 1).squeeze(-1)
        reward = torch.cat([first_reward, rewards], 1).squeeze(-1)
        return Dreamt(
            features, torch.stack(vectors, 1), reward, cont, None if unknown is None else unknown.detach().squeeze(-1)
        )

    @dispatch()
    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """The losses of dreams from a batch of states ``[*B]``; the input is left as it is."""
        dreamt = self.dream(tensordict)
        seen = dreamt.features.detach()
        with torch.no_grad():
            slow = self._value(self.slow_critic, seen)
        raw = self.critic.raw(seen)
        value = self.critic.mean(raw).squeeze(-1).detach()
        targets = self.targets(dreamt.reward, dreamt.cont, self._bootstrap(dreamt.features, value, slow))
        self.normalizer.update(targets.state_value)
        policy = self.actor.raw(seen[:, :-1])
        entropy = self.actor.distribution.entropy(policy)
        log_prob = self.actor.distribution.log_prob(policy, dreamt.vector.detach())
        baseline = slow if self.bootstrap == "slow" else value
        actor = actor_term(targets, baseline, log_prob, entropy, self.estimator, self.normalizer, self.entropy_scale)
        critic = critic_term(self.critic, raw, targets, self._regulariser(dreamt, slow), self.slow_scale)
        batch = tensordict.get(self._states[0]).shape[: tensordict.ndim]
        told = {} if dreamt.uncertainty is None else {UNCERTAINTY: dreamt.uncertainty.mean()}
        return TensorDict(
            {
                **told,
                "loss_actor": actor.mean(),
                "loss_critic": critic.mean(),
                "return": targets.state_value.mean(),
                "value": value.mean(),
                "return_scale": self.normalizer.scale.detach().clone(),
                "entropy": entropy.mean().detach(),
                "dream_length": dreamt.cont.detach().cumprod(-1)[:, 1:].sum(-1).mean(),
                "imagined_return": targets.state_value[:, 0].reshape(*batch, 1),
            }
        )

    def _value(self, critic: Head, features: Tensor) -> Tensor:
        return critic.mean(critic.raw(features)).squeeze(-1)

    def _bootstrap(self, features: Tensor, value: Tensor, slow: Tensor) -> Tensor:
        """Values that returns are built on, differentiable in the features where the estimator needs it."""
        if not self.estimator.needs_dynamics:
            return slow if self.bootstrap == "slow" else value
        critic = self.slow_critic if self.bootstrap == "slow" else self.critic
        with frozen(critic):
            return self._value(critic, features)

    def _regulariser(self, dreamt: Dreamt, slow: Tensor) -> Tensor | None:
        """What the critic is kept near, of s_0 .. s_H ``[N, H + 1]``; the slow values where it is not valued."""
        if not self.slow_scale or self.slow_target == "value":
            return slow if self.slow_scale else None
        built = self.targets(dreamt.reward, dreamt.cont, slow)
        first, count = built.first_state, built.state_value.shape[-1]
        return torch.cat([slow[..., :first], built.state_value, slow[..., first + count :]], -1)

    def _differentiable(self) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext() if self.estimator.needs_dynamics else torch.no_grad()

    def _start(self, start: TensorDictBase) -> State:
        missing = [key for key in self._states if key not in start.keys()]
        if missing:
            raise KeyError(f"dreams begin in states of the model, with {self._states}; {missing} are not in the input.")
        return {key: start.get(key).detach().flatten(0, start.ndim - 1) for key in self._states}

    def _first(self, start: TensorDictBase, like: Tensor) -> tuple[Tensor, Tensor]:
        """Reward of arriving in the start, 0 where unknown, and whether its episode goes on, 1 where unknown."""
        reward, goes_on, ended = (start.get(key, None) for key in ("reward", "continue", "terminated"))
        first = torch.zeros_like(like) if reward is None else reward.reshape(like.shape).to(like.dtype)
        if self.uncertainty is not None and self.uncertainty.reward is not None:
            first = self.uncertainty.reward(first, torch.zeros_like(first))
        if goes_on is None:
            goes_on = torch.ones_like(like) if ended is None else 1.0 - ended.to(like.dtype)
        return first, goes_on.reshape(like.shape).to(like.dtype)


_DIAGNOSTICS = ("return", "value", "return_scale", "entropy", "dream_length")


@contextlib.contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """A module whose parameters are numbers for a while: gradients pass through it, and none reaches them.

    Args:
        module: whose parameters.
    """
    params = TensorDictParams(cast(Any, TensorDict.from_module(module)).detach(), no_convert=True)
    with placed(params, module):
        yield
