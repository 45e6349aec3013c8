"""What the losses of MuZero's family share: unrolling a latent along real actions, and what each step is held to."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor
from torch.optim import Optimizer

from wmcomponents.functional.broadcast import aligned
from wmcomponents.functional.n_step import EpisodeTail, episode_tail, n_step_return
from wmcomponents.functional.scale_gradient import scale_gradient
from wmcomponents.nn.mode import EvalMode
from wmcomponents.objectives.arrivals import Arrivals
from wmcomponents.objectives.model_loss import ModelLoss, Terms
from wmcomponents.objectives.weights import placed
from wmcomponents.optim import ScheduledAdam, ScheduledSGD
from wmcomponents.world_model import State, WorldModel


class Targets(NamedTuple):
    """What the model is held to at S starts, K steps on; index 0 of K + 1 is the start itself.

    Attributes:
        reward: of the step that led there, ``[B, S, K + 1]``; 0 at the start.
        value: ``[B, S, K + 1]``.
        policy: ``[B, S, K + 1, A]``.
        cont: whether the episode goes on there, ``[B, S, K + 1]``.
        action: vectors of the actions that led there, ``[B, S, K + 1, A]``; random beyond an episode's end.
        masks: by loss, which of these are known, bool ``[B, S, K + 1]``.
    """

    reward: Tensor
    value: Tensor
    policy: Tensor
    cont: Tensor
    action: Tensor
    masks: dict[str, Tensor]


class ValueEquivalentLoss(ModelLoss):
    r"""Base of the losses that unroll a latent K steps and ask it for rewards, values and policies.

    .. math:: L = \sum_{k=0}^{K} w_k \left(L^{p}_k + c_v L^{v}_k + L^{r}_k + c_c L^{cont}_k + c_s L^{sim}_k\right)

    with no reward, continuation and similarity at k = 0. The gradient of the latent is multiplied by
    ``state_gradient`` after every step. Sequences ``[B, T]`` are read as T + 1 arrivals; an unroll that meets an
    episode's end goes on with random actions in absorbing states, or is masked there, as the family has it; where data
    are cut without termination it is masked in all of them.

    Keys read: as every model loss; besides, where present, a search's results for the state in which each action was
    taken: ``("search", "policy")`` ``[B, T, A]`` and ``("search", "value")`` ``[B, T, 1]`` (or ``[B, T]``). Where only
    some states were searched, ``("search", "mask")``, bool, shaped as the value, tells which; whatever the others hold
    is not read. Without a search the policy's target is the action that was taken, and the value is bootstrapped from
    the target network.

    Keys written: ``loss_policy``, ``loss_value``, ``loss_reward``, and where the model has the part
    ``loss_continue`` and ``loss_consistency``; detached diagnostics ``reward_error`` (mean absolute, first step),
    ``value_target``.

    Args:
        world_model: a model of MuZero's family.
        unroll: K.
        td_steps: n of the value target.
        discount: gamma.
        state_gradient: factor on the latent's gradient at every step.
        policy_scale: weight of the policy loss.
        value_scale: c_v.
        reward_scale: weight of the reward loss.
        continue_scale: c_c.
        consistency_scale: c_s.
        starts: positions of each sequence that are unrolled, drawn anew each time; 0 takes all.
        target_interval: updates between copies of the network into the target network.
        optimizer: ``"sgd"`` or ``"adam"``.
        lr: learning rate of :meth:`make_optimizer`.
        warmup: its warm-up steps.
        weight_decay: L2.
        max_norm: largest norm of the gradient; ``None`` does not clip it.
        decay_rate: factor on the learning rate every ``decay_steps`` updates.
        decay_steps: see above; 0 does not decay.
        staircase: whether the decay comes at once.
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

    def __init__(
        self,
        world_model: WorldModel,
        *,
        unroll: int = 5,
        td_steps: int = 5,
        discount: float = 0.997,
        state_gradient: float = 0.5,
        policy_scale: float = 1.0,
        value_scale: float = 0.25,
        reward_scale: float = 1.0,
        continue_scale: float = 1.0,
        consistency_scale: float = 0.0,
        starts: int = 1,
        target_interval: int = 100,
        optimizer: str = "sgd",
        lr: float = 0.05,
        warmup: int = 0,
        weight_decay: float = 1e-4,
        max_norm: float | None = None,
        decay_rate: float = 1.0,
        decay_steps: int = 0,
        staircase: bool = False,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        if not hasattr(world_model, "transition") or not hasattr(world_model, "prediction"):
            raise TypeError(
                f"this loss trains world models of MuZero's family (models.ValueEquivalentModel); "
                f"{type(world_model).__name__} is none: use its own objective()."
            )
        if unroll < 1 or td_steps < 1 or starts < 0 or target_interval < 1:
            raise ValueError(
                f"unroll, td_steps and target_interval are at least 1, starts at least 0; got {unroll}, {td_steps}, "
                f"{target_interval}, {starts}."
            )
        if optimizer not in ("sgd", "adam"):
            raise ValueError(f"optimizer is 'sgd' or 'adam'; got {optimizer!r}.")
        self.unroll, self.td_steps, self.starts, self.target_interval = unroll, td_steps, starts, target_interval
        self.discount, self.state_gradient = discount, state_gradient
        self._optimizer = (optimizer, lr, warmup, weight_decay)
        self._schedule = {
            "max_norm": max_norm,
            "decay_rate": decay_rate,
            "decay_steps": decay_steps,
            "staircase": staircase,
        }
        super().__init__(
            world_model,
            coefficients={
                "policy_scale": policy_scale,
                "value_scale": value_scale,
                "reward_scale": reward_scale,
                "continue_scale": continue_scale,
                "consistency_scale": consistency_scale,
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
    def step_weights(self, before: EpisodeTail) -> Tensor:
        """w_k of every start, ``[B, S, K + 1]`` or what broadcasts to it.

        Args:
            before: what is known of the episode after each start, ``[B, S]`` each.
        """

    def _written(self) -> list[NestedKey]:
        parts = {"continue": self.world_model.continue_head, "consistency": self.world_model.projection}
        losses = ["policy", "value", "reward", *(name for name, part in parts.items() if part is not None)]
        return [*(f"loss_{name}" for name in losses), "reward_error", "value_target"]

    # -- what the training loop asks -----------------------------------------------------------------------------------

    def make_optimizer(self, lr: float | None = None, warmup: int | None = None) -> Optimizer:
        """The family's optimiser, with its schedule."""
        kind, own_lr, own_warmup, decay = self._optimizer
        params = [p for p in self.parameters() if p.requires_grad]
        make = ScheduledSGD if kind == "sgd" else ScheduledAdam
        lr, warmup = own_lr if lr is None else lr, own_warmup if warmup is None else warmup
        return make(params, lr, weight_decay=decay, warmup=warmup, **self._schedule)

    def before_update(self, step: int) -> None:
        """At the start the target network is the network, with the scales that were fitted to the data."""
        if step == 0:
            self.refresh_target()

    def after_update(self, step: int) -> None:
        """Every ``target_interval`` updates the target network becomes the network."""
        if (step + 1) % self.target_interval == 0:
            self.refresh_target()

    @torch.no_grad()
    def refresh_target(self) -> None:
        """Copy weights and statistics into the target network."""
        own = self.world_model_params.flatten_keys(".")
        for name, value in self.target_world_model_params.flatten_keys(".").items():
            value.data.copy_(own[name].data)

    # -- the loss ------------------------------------------------------------------------------------------------------

    def elements(self, tensordict: TensorDictBase) -> Terms:
        """The terms of a batch of sequences, summed over the unroll: ``[B, S]``."""
        arrivals = self.arrivals(tensordict)
        model = self.world_model
        action = model.action_vector(arrivals.action)
        state = model.initial_state(action.shape[:1], action.device)
        stack, _ = model.stack_sequence(state, action, arrivals.observation, arrivals.is_init)
        episode = episode_tail(arrivals.is_init.squeeze(-1), arrivals.terminated.squeeze(-1), arrivals.real)
        starts = self._draw_starts(episode.left)
        targets = self.targets(arrivals, action, self.bootstrap_value(arrivals, stack), episode, starts)
        weight = arrivals.weight * self._usable(arrivals, episode)
        losses, info = self.terms(
            stack, targets, starts, self.step_weights(EpisodeTail(*(_at(x, starts) for x in episode)))
        )
        return Terms(losses, info, _at(weight, starts))

    def arrivals(self, tensordict: TensorDictBase, further: Sequence[str] = ()) -> Arrivals:
        """The batch as arrivals; a search's results come as observations, with ``search_mask`` where there are any."""
        keys, shape = self.tensor_keys, tensordict.batch_size
        search = {"search_policy": keys.search_policy, "search_value": keys.search_value}
        found = {name: tensordict.get(key) for name, key in search.items() if tensordict.get(key, None) is not None}
        if found:
            mask = tensordict.get(keys.search_mask, None)
            # Nobody searched from an observation that is known under "next" alone.
            found["search_mask"] = torch.ones(shape, device=tensordict.device) if mask is None else mask
            found["search_mask"] = found["search_mask"].reshape(*shape, 1).bool()
            tensordict = tensordict.copy()
            for name, value in found.items():
                value = value.reshape(*shape, -1)
                tensordict.set(name, value).set(("next", name), torch.zeros_like(value))
        return super().arrivals(tensordict, [*further, *found])

    def targets(
        self, arrivals: Arrivals, action: Tensor, value: Tensor, episode: EpisodeTail, starts: Tensor
    ) -> Targets:
        """What the model is held to.

        Args:
            arrivals: ``[B, L]``.
            action: vectors of their actions, ``[B, L, A]``.
            value: of each arrival, to bootstrap from, ``[B, L]``.
            episode: what follows each arrival, ``[B, L]``.
            starts: ``[B, S]``.
        """
        model = self.world_model
        reward = arrivals.reward.squeeze(-1)
        returns = n_step_return(reward, value, episode.left, episode.ends, self.td_steps, self.discount, model.players)
        policy = torch.cat([action[:, 1:], torch.zeros_like(action[:, :1])], 1)
        has_policy = episode.left > 0
        if "search_policy" in arrivals.observation:
            searched = arrivals.observation["search_mask"].squeeze(-1)
            found = arrivals.observation["search_policy"].to(action.dtype)
            policy, has_policy = torch.where(searched.unsqueeze(-1), found, policy), has_policy & searched
        left, ends = (_at(x, starts).unsqueeze(-1) for x in episode)
        steps = torch.arange(self.unroll + 1, device=starts.device)
        at = starts.unsqueeze(-1) + steps.clamp(max=self.unroll).minimum(left)  # never past what is known
        is_known, is_past = steps <= left, (steps >= left) & ends
        is_beyond = (steps > left) & ends
        own = picked(has_policy, at) & (steps < left)
        absorbed = is_past if self.absorbing else torch.zeros_like(is_past)
        wanted = torch.where(
            own.unsqueeze(-1), picked(policy, at), model.policy_distribution.uniform(picked(policy, at))
        )
        random = model.policy_distribution.random(at.shape, self.generator)
        led = torch.where(is_known.unsqueeze(-1), picked(action, at), random)
        follows = is_known & (steps > 0)
        return Targets(
            reward=torch.where(follows, picked(reward, at), 0.0),
            value=torch.where(is_past, 0.0, picked(returns, at)),
            policy=wanted,
            cont=1.0 - picked(arrivals.terminated.squeeze(-1).to(reward.dtype), at),
            action=led,
            masks={
                "policy": own | absorbed,
                "value": (steps < left) | absorbed,
                "reward": follows | (is_beyond if self.absorbing else torch.zeros_like(is_beyond)),
                "continue": follows,
                "consistency": follows,
            },
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
        memory = cast(State, model.fresh_memory(starts.unsqueeze(-1)))
        wanted = model.reward_head.targets(targets.reward[..., 1:])
        sums: dict[str, list[Tensor]] = {}
        weights = weights.expand(targets.reward.shape)
        info = {}
        for k in range(self.unroll + 1):
            errors: dict[str, Tensor] = {}
            if k > 0:
                latent, unscaled = model.transition.compute(latent, targets.action[:, :, k])
                # Where nothing is scaled both are one tensor, and its whole gradient is shortened.
                is_one = latent is unscaled
                latent = scale_gradient(latent, self.state_gradient)
                logits, reward, memory = model.reward_head.advance(latent if is_one else unscaled, memory)
                errors["reward"] = self.reward_scale * model.reward_head.support.loss(logits, wanted[..., k - 1])
                if k == 1:
                    info["reward_error"] = (reward.squeeze(-1) - targets.reward[..., 1]).abs()
                if model.continue_head is not None:
                    raw = model.continue_head.raw(model.flat(latent))
                    errors["continue"] = self.continue_scale * model.continue_head.loss(
                        raw, targets.cont[:, :, k].unsqueeze(-1)
                    )
                if model.projection is not None:
                    at = (starts + k).clamp(max=stack.shape[1] - 1)
                    truth = picked(cast(Tensor, encoded), at)
                    errors["consistency"] = self.consistency_scale * model.projection.loss(latent, truth)
            policy, value = model.prediction.raw(latent)
            errors["policy"] = self.policy_scale * model.policy_distribution.loss(policy, targets.policy[:, :, k])
            errors["value"] = self.value_scale * model.prediction.support.loss(value, targets.value[..., k])
            for name, error in errors.items():
                masked = torch.where(targets.masks[name][..., k], error, torch.zeros_like(error))
                sums.setdefault(name, []).append(weights[..., k] * masked)
        info["value_target"] = targets.value[..., 0]
        return {name: torch.stack(parts).sum(0) for name, parts in sums.items()}, info

    def _encode(self, stack: Tensor, starts: Tensor) -> tuple[Tensor | None, Tensor]:
        """Latents of every step where they are asked for (else none), and those of the starts."""
        model = self.world_model
        if self.starts and model.projection is None:
            return None, model.representation.compute(picked(stack, starts))
        encoded = model.representation.compute(stack)
        return encoded.detach(), picked(encoded, starts)

    @torch.no_grad()
    def bootstrap_value(self, arrivals: Arrivals, stack: Tensor) -> Tensor:
        """The value of each step: the search's where there is one, else the target network's; ``[B, L]``."""
        model = self.world_model
        with placed(self.target_world_model_params, model), EvalMode(model):
            value = model.value({"latent": model.flat(model.representation.compute(stack))}).squeeze(-1)
        if "search_value" in arrivals.observation:
            given = arrivals.observation["search_value"].squeeze(-1).to(value.dtype)
            value = torch.where(arrivals.observation["search_mask"].squeeze(-1), given, value)
        return value

    def _draw_starts(self, left: Tensor) -> Tensor:
        """Indices of the starts, int64 ``[B, S]``: all, or random ones from which something follows where possible."""
        batch, length = left.shape
        if not self.starts:
            return torch.arange(length, device=left.device).expand(batch, length)
        reach = max(1, length - self.unroll)
        return torch.randint(reach, (batch, self.starts), generator=self.generator, device=left.device)

    def _usable(self, arrivals: Arrivals, episode: EpisodeTail) -> Tensor:
        """Where something follows, and the history's frames are the real ones: 1.0, else 0.0; ``[B, L]``."""
        first = arrivals.is_init.squeeze(-1)
        steps = torch.arange(first.shape[1], device=first.device).expand_as(first)
        begun = first.long().cummax(1).values.bool()
        return ((episode.left > 0) & (begun | (steps >= self.world_model.history.past))).to(arrivals.weight.dtype)


def _at(x: Tensor, index: Tensor) -> Tensor:
    """``[B, L]`` at ``[B, S]``."""
    return x.gather(1, index)


def picked(x: Tensor, index: Tensor) -> Tensor:
    """``[B, L, ...]`` at ``[B, *index]``: ``[B, *index, ...]``."""
    rows = aligned(torch.arange(x.shape[0], device=x.device), index)
    return x[rows, index]
