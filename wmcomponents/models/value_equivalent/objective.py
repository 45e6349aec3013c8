"""What the losses of MuZero's family share: unrolling a latent along real actions, and what each step is held to."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor
from torch.optim import Optimizer

from wmcomponents.functional.n_step import EpisodeTail, episode_tail, n_step_return
from wmcomponents.functional.scale_gradient import scale_gradient
from wmcomponents.models.value_equivalent.base import ValueEquivalentModel
from wmcomponents.models.value_equivalent.config import ValueEquivalentLossConfig, ValueEquivalentOptimizerConfig
from wmcomponents.models.value_equivalent.search import searched_values, with_search
from wmcomponents.models.value_equivalent.targets import Targets, gather_steps, unroll_targets
from wmcomponents.nn.mode import EvalMode
from wmcomponents.objectives import Arrivals, ModelLoss, PeriodicCopy, Terms, check_model, copy_weights
from wmcomponents.objectives.weights import placed
from wmcomponents.optim import ScheduledAdam, ScheduledSGD
from wmcomponents.world_model import State


class ValueEquivalentLoss(ModelLoss[ValueEquivalentModel]):
    r"""Base of the losses that unroll a latent K steps and ask it for rewards, values and policies.

    .. math:: L = \sum_{k=0}^{K} w_k \left(L^{p}_k + c_v L^{v}_k + L^{r}_k + c_c L^{cont}_k + c_s L^{sim}_k
        + c_a L^{agree}_k\right)

    with no reward, continuation, similarity and agreement at k = 0. The gradient of the latent is multiplied by
    ``state_gradient`` after every step. Sequences ``[B, T]`` are read as T + 1 arrivals; an unroll that meets an
    episode's end goes on with random actions in absorbing states, or is masked there, as the family has it; where data
    are cut without termination it is masked in all of them.

    Keys read: as every model loss; besides, where present, a search's results for the state in which each action was
    taken: ``("search", "policy")`` ``[B, T, A]`` and ``("search", "value")`` ``[B, T, 1]`` (or ``[B, T]``). Where only
    some states were searched, ``("search", "mask")``, bool, shaped as the value, tells which; whatever the others hold
    is not read. Without a search the policy's target is the action that was taken, and the value is bootstrapped from
    the target network.

    Keys written: ``loss_policy``, ``loss_value``, ``loss_reward``, and where the model has the part
    ``loss_continue`` and ``loss_consistency``, with ``agreement_scale`` also ``loss_agreement``; detached diagnostics
    ``reward_error`` (mean absolute, first step), ``value_target``.

    Args:
        world_model: a model of MuZero's family.
        config: numbers of the loss.
        optimizer: numbers of :meth:`make_optimizer`.
        consistency_scale: c_s, weight of the consistency loss.
        seed: of starts and random actions.
        reduction: of the losses: ``"mean"``, ``"sum"`` or ``"none"`` (``[B, S]``).

    Raises:
        TypeError: if the model is not of MuZero's family.
        ValueError: if a count is out of range.
    """

    @dataclass
    class _AcceptedKeys(ModelLoss._AcceptedKeys):
        search_policy: NestedKey = ("search", "policy")
        search_value: NestedKey = ("search", "value")
        search_mask: NestedKey = ("search", "mask")

    tensor_keys: _AcceptedKeys
    default_keys = _AcceptedKeys

    policy_scale: Tensor
    value_scale: Tensor
    reward_scale: Tensor
    continue_scale: Tensor
    consistency_scale: Tensor
    agreement_scale: Tensor

    def __init__(
        self,
        world_model: ValueEquivalentModel,
        config: ValueEquivalentLossConfig,
        *,
        optimizer: ValueEquivalentOptimizerConfig,
        consistency_scale: float = 0.0,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        check_model(world_model, ValueEquivalentModel, type(self))
        c = config
        if c.unroll < 1 or c.td_steps < 1 or c.starts < 0 or c.target_interval < 1:
            raise ValueError(
                f"unroll, td_steps and target_interval are at least 1, starts at least 0; got {c.unroll}, "
                f"{c.td_steps}, {c.target_interval}, {c.starts}."
            )
        if optimizer.algorithm not in ("sgd", "adam"):
            raise ValueError(f"algorithm is 'sgd' or 'adam'; got {optimizer.algorithm!r}.")
        self.unroll, self.td_steps, self.starts = c.unroll, c.td_steps, c.starts
        self.discount, self.state_gradient = c.discount, c.state_gradient
        self.has_agreement = c.agreement_scale > 0
        self.target_update = PeriodicCopy(c.target_interval)
        self.optimizer_config = optimizer
        super().__init__(
            world_model,
            coefficients={
                "policy_scale": c.policy_scale,
                "value_scale": c.value_scale,
                "reward_scale": c.reward_scale,
                "continue_scale": c.continue_scale,
                "consistency_scale": consistency_scale,
                "agreement_scale": c.agreement_scale,
            },
            seed=seed,
            reduction=reduction,
            create_target_params=True,
        )
        # TorchRL would warn of a target network without an updater of its own; the training loop's hooks update it.
        self._has_update_associated = dict.fromkeys(self._has_update_associated, True)

    @property
    @abstractmethod
    def absorbing(self) -> bool:
        """Whether steps beyond a termination are learned as states without reward and value; else they are masked."""

    @abstractmethod
    def step_weights(self, tail: EpisodeTail) -> Tensor:
        """w_k of every start, ``[B, S, K + 1]`` or what broadcasts to it.

        Args:
            tail: what is known of the episode after each start, ``[B, S]`` each.
        """

    def _written(self) -> list[NestedKey]:
        parts = {"continue": self.world_model.continue_head, "consistency": self.world_model.projection}
        losses = ["policy", "value", "reward", *(name for name, part in parts.items() if part is not None)]
        losses += ["agreement"] if self.has_agreement else []
        return [*(f"loss_{name}" for name in losses), "reward_error", "value_target"]

    # -- what the training loop asks -----------------------------------------------------------------------------------

    def make_optimizer(self, lr: float | None = None, warmup: int | None = None) -> Optimizer:
        """The family's optimiser, with its schedule.

        Args:
            lr: learning rate; the config's if not given.
            warmup: updates over which the rate grows from 0; the config's if not given.
        """
        c = self.optimizer_config
        make = ScheduledSGD if c.algorithm == "sgd" else ScheduledAdam
        return make(
            [p for p in self.parameters() if p.requires_grad],
            c.lr if lr is None else lr,
            weight_decay=c.weight_decay,
            max_norm=c.max_norm,
            warmup=c.warmup if warmup is None else warmup,
            decay_rate=c.decay_rate,
            decay_steps=c.decay_steps,
            staircase=c.staircase,
        )

    def before_update(self, step: int) -> None:
        """At the start the target network is the network, with the scales that were fitted to the data."""
        if step == 0:
            copy_weights(self.target_world_model_params, self.world_model_params)

    def after_update(self, step: int) -> None:
        """Every ``target_interval`` updates the target network becomes the network."""
        self.target_update.update(self.target_world_model_params, self.world_model_params, step)

    def priorities(self, tensordict: TensorDictBase) -> Tensor:
        """How far the value of each transition's state is from its target, for replay by priority.

        Args:
            tensordict: sequences ``[B, T]``.

        Returns:
            ``[B, T]``; see :func:`~wmcomponents.models.initial_priorities`.
        """
        from wmcomponents.models.value_equivalent.priorities import initial_priorities

        return initial_priorities(self, tensordict)

    # -- the loss ------------------------------------------------------------------------------------------------------

    def elements(self, tensordict: TensorDictBase) -> Terms:
        """The terms of a batch of sequences ``[B, T]``, summed over the unroll: ``[B, S]``."""
        arrivals = self.arrivals(tensordict)
        model = self.world_model
        action = model.action_vector(arrivals.action)
        state = model.initial_state(action.shape[:1], action.device)
        stack, _ = model.stack_sequence(state, action, arrivals.observation, arrivals.is_init)
        tail = episode_tail(arrivals.is_init.squeeze(-1), arrivals.terminated.squeeze(-1), arrivals.real)
        starts = self._draw_starts(tail.steps_remaining)
        targets = self.targets(arrivals, action, self.bootstrap_value(arrivals, stack), tail, starts)
        weight = arrivals.weight * self._usable(arrivals, tail)
        step_weights = self.step_weights(EpisodeTail(*(gather_steps(value, starts) for value in tail)))
        losses, info = self.terms(stack, targets, starts, step_weights)
        return Terms(losses, info, gather_steps(weight, starts))

    def arrivals(self, tensordict: TensorDictBase, further: Sequence[str] = ()) -> Arrivals:
        """The batch as arrivals; a search's results come as observations, with ``search_mask`` where there are any.

        Args:
            tensordict: sequences ``[B, T]``.
            further: keys of what is shown beside the observations.
        """
        keys = self.tensor_keys
        tensordict, found = with_search(tensordict, keys.search_policy, keys.search_value, keys.search_mask)
        return super().arrivals(tensordict, [*further, *found])

    def targets(self, arrivals: Arrivals, action: Tensor, value: Tensor, tail: EpisodeTail, starts: Tensor) -> Targets:
        """What the model is held to, ``[B, S, K + 1]``.

        Args:
            arrivals: ``[B, L]``.
            action: vectors of the actions that led to them, ``[B, L, A]``.
            value: value of each arrival, to bootstrap from, ``[B, L]``.
            tail: what is known of the episode after each arrival, ``[B, L]``.
            starts: indices of the starts, int64 ``[B, S]``.
        """
        reward, players = arrivals.reward.squeeze(-1), self.world_model.players
        return unroll_targets(
            arrivals,
            action,
            n_step_return(reward, value, tail, self.td_steps, self.discount, players),
            tail,
            starts,
            unroll=self.unroll,
            absorbing=self.absorbing,
            policy=self.world_model.policy_distribution,
            generator=self.generator,
        )

    def terms(
        self, stack: Tensor, targets: Targets, starts: Tensor, weights: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Unroll from every start and compare.

        Args:
            stack: what h reads, ``[B, L, C, *space]``.
            targets: ``[B, S, K + 1]``.
            starts: ``[B, S]``.
            weights: w_k, ``[B, S, K + 1]``.

        Returns:
            Losses and diagnostics, each ``[B, S]``.
        """
        model = self.world_model
        encoded, latent = self._encode(stack, starts)
        memory = model.fresh_memory(starts.unsqueeze(-1))
        reward_targets = model.reward_head.targets(targets.reward[..., 1:])
        weights = weights.expand(targets.reward.shape)
        sums: dict[str, list[Tensor]] = {}
        info = {}
        for k in range(self.unroll + 1):
            losses: dict[str, Tensor] = {}
            if k > 0:
                latent, logits, reward, memory = self._step(latent, targets.action[:, :, k], memory)
                losses["reward"] = self.reward_scale * model.reward_head.support.loss(
                    logits, reward_targets[..., k - 1]
                )
                index = (starts + k).clamp(max=stack.shape[1] - 1)
                met = None if encoded is None else gather_steps(encoded, index)
                losses.update(self._latent_losses(latent, met, targets, k))
                if k == 1:
                    info["reward_error"] = (reward.squeeze(-1) - targets.reward[..., 1]).abs()
            losses.update(self._prediction_losses(latent, targets, k))
            for name, loss in losses.items():
                masked = torch.where(targets.masks[name][..., k], loss, torch.zeros_like(loss))
                sums.setdefault(name, []).append(weights[..., k] * masked)
        info["value_target"] = targets.value[..., 0]
        return {name: torch.stack(parts).sum(0) for name, parts in sums.items()}, info

    def _step(self, latent: Tensor, action: Tensor, memory: State) -> tuple[Tensor, Tensor, Tensor, State]:
        """One step of the unroll: next latent, logits and mean of its reward, and the reward head's memory."""
        latent, unscaled = self.world_model.transition.compute(latent, action)
        # Where nothing is scaled both are one tensor, and its whole gradient is shortened.
        is_one = latent is unscaled
        latent = scale_gradient(latent, self.state_gradient)
        logits, reward, memory = self.world_model.reward_head.advance(latent if is_one else unscaled, memory)
        return latent, logits, reward, memory

    def _latent_losses(self, latent: Tensor, encoded: Tensor | None, targets: Targets, k: int) -> dict[str, Tensor]:
        """What a latent that was arrived at is held to, each ``[B, S]``: termination, and agreement with the encoder.

        Args:
            latent: of step k, ``[B, S, *latent shape]``.
            encoded: latent of the observation that was met there, without gradient; where anything is compared with it.
            targets: ``[B, S, K + 1]``.
            k: step of the unroll.
        """
        model, losses = self.world_model, {}
        if model.continue_head is not None:
            raw = model.continue_head.raw(model.flat(latent))
            cont = targets.cont[:, :, k].unsqueeze(-1)
            losses["continue"] = self.continue_scale * model.continue_head.loss(raw, cont)
        if model.projection is not None and encoded is not None:
            losses["consistency"] = self.consistency_scale * model.projection.loss(latent, encoded)
        if self.has_agreement and encoded is not None:
            losses["agreement"] = self.agreement_scale * _distance(model.flat(latent), model.flat(encoded))
        return losses

    def _prediction_losses(self, latent: Tensor, targets: Targets, k: int) -> dict[str, Tensor]:
        """Policy and value of a latent ``[B, S, *latent shape]`` at step k, each ``[B, S]``."""
        model = self.world_model
        policy, value = model.prediction.raw(latent)
        return {
            "policy": self.policy_scale * model.policy_distribution.loss(policy, targets.policy[:, :, k]),
            "value": self.value_scale * model.prediction.support.loss(value, targets.value[..., k]),
        }

    def _encode(self, stack: Tensor, starts: Tensor) -> tuple[Tensor | None, Tensor]:
        """Latents of every step ``[B, L, ...]`` where they are asked for, else none; and of the starts ``[B, S, ...]``.

        Args:
            stack: what h reads, ``[B, L, C, *space]``.
            starts: ``[B, S]``.
        """
        model = self.world_model
        is_compared = model.projection is not None or self.has_agreement
        if self.starts and not is_compared:
            return None, model.representation.compute(gather_steps(stack, starts))
        encoded = model.representation.compute(stack)
        return encoded.detach() if is_compared else None, gather_steps(encoded, starts)

    @torch.no_grad()
    def bootstrap_value(self, arrivals: Arrivals, stack: Tensor) -> Tensor:
        """The value of each step: the search's where there is one, else the target network's; ``[B, L]``.

        Args:
            arrivals: ``[B, L]``.
            stack: what h reads, ``[B, L, C, *space]``.
        """
        model = self.world_model
        with placed(self.target_world_model_params, model), EvalMode(model):
            value = model.value({"latent": model.flat(model.representation.compute(stack))}).squeeze(-1)
        return searched_values(arrivals, value)

    def _draw_starts(self, steps_remaining: Tensor) -> Tensor:
        """Indices of the starts, int64 ``[B, S]``: all, or random ones from which something follows where possible."""
        batch, length = steps_remaining.shape
        if not self.starts:
            return torch.arange(length, device=steps_remaining.device).expand(batch, length)
        reach = max(1, length - self.unroll)
        return torch.randint(reach, (batch, self.starts), generator=self.generator, device=steps_remaining.device)

    def _usable(self, arrivals: Arrivals, tail: EpisodeTail) -> Tensor:
        """Where something follows, and the history's frames are the real ones: 1.0, else 0.0; ``[B, L]``."""
        first = arrivals.is_init.squeeze(-1)
        steps = torch.arange(first.shape[1], device=first.device).expand_as(first)
        has_begun = first.long().cummax(1).values.bool()
        has_history = has_begun | (steps >= self.world_model.history.past)
        return ((tail.steps_remaining > 0) & has_history).to(arrivals.weight.dtype)


def _distance(latent: Tensor, encoded: Tensor) -> Tensor:
    """Mean squared distance of latents ``[B, S, F]`` in units of the encoded ones' variance, ``[B, S]``.

    In such units nothing is gained by latents that shrink.
    """
    variance = encoded.flatten(0, 1).var(0, correction=0).mean()
    return (latent - encoded).square().mean(-1) / (variance + 1e-5)
