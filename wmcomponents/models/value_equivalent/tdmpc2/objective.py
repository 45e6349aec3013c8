"""TD-MPC2's objective (Hansen, Su, Wang, TD-MPC2: Scalable, Robust World Models for Continuous Control, eq. 3 to 6)."""

from collections import deque
from collections.abc import Mapping
from typing import ClassVar

import torch
from tensordict import NestedKey, TensorDict, TensorDictBase
from torch import Tensor
from torch.optim import Optimizer

from wmcomponents.functional import shifted_images
from wmcomponents.models.value_equivalent.tdmpc2.config import TDMPC2LossConfig, TDMPC2OptimizerConfig
from wmcomponents.models.value_equivalent.tdmpc2.draws import Draws, draw
from wmcomponents.models.value_equivalent.tdmpc2.policy_loss import Latents, policy_terms
from wmcomponents.models.value_equivalent.tdmpc2.protocol import TDMPC2Model
from wmcomponents.objectives import ExponentialAverage, ModelLoss, Terms, check_model
from wmcomponents.objectives.configured import loss_part, optimizer_part
from wmcomponents.objectives.windows import Windows, windows_of
from wmcomponents.optim import ClippedAdam
from wmcomponents.world_model import Observation

SHIFT = 3
"""Pixels by which images are moved at most, in each direction."""


class TDMPC2Loss(ModelLoss[TDMPC2Model]):
    r"""World-model objective of TD-MPC2 and the loss of its policy prior, on TorchRL-layout sequences.

    .. math::
        L = \tfrac{1}{H} \sum_{t=0}^{H-1} \rho^t \left( c_z \|z_{t+1} - \bar z_{t+1}\|^2 + c_r CE(\hat r_t, r_t)
            + c_q CE(\hat q_t, \hat y_t) \right) + c_d BCE(\hat d, d), \qquad
        L_\pi = -\tfrac{1}{H+1} \sum_{t=0}^{H} \rho^t \left( \bar q(z_t, a_t) / S + c_e \mathcal H_t \right)

    Here z_0 encodes the first observation of a window, and z_{t+1} follows from z_t and a_t by the model's dynamics; t
    counts from there. The targets are the encoder's own latents of the later observations, without gradient. The value
    target is ``r + gamma (1 - terminated) min(q_i, q_j)`` of two target value functions, drawn anew in each update, at
    an action of the policy. The policy's loss takes z as given and leaves the value functions as they are: its gradient
    reaches the policy alone. (In the authors' code that on the task embedding waits for the next update of the model.)

    A call returns all losses, to be stepped on at once. The training loop goes by :meth:`phase`: it steps on the model
    first, and computes the policy's loss at the weights which that gives, as the authors' code does.

    Sequences ``[B, T]`` are cut into windows of H transitions, side by side; what is left over at the end is not used,
    and a shorter sequence is one window. Where another episode begins inside a window, the latent and the count of t
    begin anew with it.

    Noise, the choice of value functions, dropout and the shift of images come from this module's own generator.

    Keys read (rename with ``set_keys``): the observation keys, ``action``, ``is_init``; under ``next`` the observation
    keys, ``reward``, ``terminated``, ``done``. Honoured where present: ``("collector", "mask")``, whose padding may
    hold anything, and ``priority_weight``, one for each transition.

    Keys written: ``loss_consistency``, ``loss_reward``, ``loss_value``, ``loss_termination`` (if the model is
    episodic), ``loss_policy``, each weighted and meant to be summed; and detached diagnostics: ``value_target``,
    ``policy_entropy`` (nats), ``policy_bonus`` (what the loss rewards as entropy), ``policy_scale`` (S).

    The training loop's hooks do the rest: :meth:`after_update` moves the target value functions and S.

    Args:
        world_model: a :class:`wmcomponents.models.TDMPC2`.
        config: numbers of the objective.
        optimizer: numbers of :meth:`make_optimizer`.
        seed: of the noise.
        reduction: of the losses: ``"mean"`` (weighted), ``"sum"`` or ``"none"`` (``[N, H]``, the policy's
            ``[N, H + 1]``). Diagnostics are means.

    Raises:
        TypeError: if the model has no parts of these kinds.
        ValueError: for an unknown reduction, or another number of discounts than of tasks; on call, if the sequences
            have no batch ``[B, T]``.
        KeyError: on call, if a key is missing.
    """

    rho: Tensor
    consistency_scale: Tensor
    reward_scale: Tensor
    value_scale: Tensor
    termination_scale: Tensor
    entropy_scale: Tensor
    discounts: Tensor
    policy_scale: Tensor

    def __init__(
        self,
        world_model: TDMPC2Model,
        config: TDMPC2LossConfig | None = None,
        *,
        optimizer: TDMPC2OptimizerConfig | None = None,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        check_model(world_model, TDMPC2Model, type(self))
        c = loss_part(TDMPC2LossConfig, config)
        if c.horizon < 1:
            raise ValueError(f"horizon is at least 1; got {c.horizon}.")
        tasks = max(1, world_model.tasks)
        if len(c.discounts) != tasks:
            raise ValueError(f"one discount for each of {tasks} task(s); got {len(c.discounts)}: see episode_lengths.")
        super().__init__(
            world_model,
            coefficients={
                "rho": c.rho,
                "consistency_scale": c.consistency_scale,
                "reward_scale": c.reward_scale,
                "value_scale": c.value_scale,
                "termination_scale": c.termination_scale,
                "entropy_scale": c.entropy_scale,
            },
            seed=seed,
            reduction=reduction,
        )
        self.horizon, self.average = c.horizon, ExponentialAverage(c.tau)
        self.optimizer_config = optimizer_part(TDMPC2OptimizerConfig, optimizer)
        device = next(world_model.parameters()).device
        self.register_buffer("discounts", torch.tensor(c.discounts, device=device))
        self.register_buffer("policy_scale", torch.ones((), device=device))
        self._next_scale: Tensor | None = None
        self._behind: deque[tuple[Latents, Draws, Tensor]] = deque()

    def _written(self) -> list[NestedKey]:
        ending = [] if self.world_model.termination_head is None else ["loss_termination"]
        return [
            *("loss_consistency", "loss_reward", "loss_value"),
            *ending,
            *("loss_policy", "value_target", "policy_entropy", "policy_bonus", "policy_scale"),
        ]

    # -- what the training loop asks ---------------------------------------------------------------------------------

    def make_optimizer(self, lr: float | None = None, warmup: int | None = None) -> Optimizer:
        """Adam, its gradients clipped: the policy's by themselves, all others together.

        Args:
            lr: learning rate; the config's if not given.
            warmup: updates over which the rate grows from 0; the config's if not given.
        """
        c = self.optimizer_config
        lr = c.lr if lr is None else lr
        groups: dict[str, list[Tensor]] = {"encoder": [], "policy": [], "": []}
        for name, parameter in self.world_model_params.flatten_keys(".").items():
            if parameter.requires_grad:
                part = str(name).partition(".")[0]
                groups[part if part in groups else ""].append(parameter)
        return ClippedAdam(
            [
                {"params": groups["encoder"], "lr": c.encoder_lr_scale * lr},
                {"params": groups[""]},
                {"params": groups["policy"], "eps": c.policy_eps, "clip": "policy"},
            ],
            lr,
            max_norm=c.max_norm,
            warmup=c.warmup if warmup is None else warmup,
        )

    @torch.no_grad()
    def after_update(self, step: int) -> None:
        """Move the target value functions towards the trained ones, and S to what the last batch said."""
        params = self.world_model_params
        self.average.update(params.get("target_q"), params.get("q"), step)
        if self._next_scale is not None:
            self.policy_scale.copy_(self._next_scale)
            self._next_scale = None

    # -- the objective -------------------------------------------------------------------------------------------------

    def elements(self, tensordict: TensorDictBase) -> Terms:
        """The terms of a batch of sequences ``[B, T]``, with fresh noise: ``[N, H]``, the policy's ``[N, H + 1]``."""
        windows, draws, weight = self._drawn(tensordict)
        losses, info, latents = self.model_terms(windows, draws)
        policy, more = self.policy_terms(latents, draws, weight)
        return Terms({**losses, **policy}, {**info, **more}, weight)

    phases: ClassVar[int] = 2

    def before_update(self, step: int) -> None:
        """Forget what an update that was broken off left behind."""
        self._behind.clear()

    def phase(self, tensordict: TensorDictBase, number: int) -> TensorDict:
        """The model's losses first, then the policy's, at the value functions that the first step gave.

        Args:
            tensordict: sequences ``[B, T]``.
            number: 0 or 1.
        """
        with self._placed():
            if number == 0:
                windows, draws, weight = self._drawn(tensordict)
                losses, info, latents = self.model_terms(windows, draws)
                self._behind.append((latents, draws, weight))
            else:
                latents, draws, weight = self._behind.popleft()
                losses, info = self.policy_terms(latents, draws, weight)
        return self._told(Terms(losses, info, weight))

    def _drawn(self, tensordict: TensorDictBase) -> tuple[Windows, Draws, Tensor]:
        """Windows, noise, and the weight of their latents, ``[N, H + 1]``."""
        windows = self.windows(tensordict)
        # The latent in which a window ends counts for the policy as the transition that led there does.
        weight = torch.cat([windows.weight, windows.weight[:, -1:]], 1)
        return windows, self.draw(*windows.weight.shape), weight

    def windows(self, tensordict: TensorDictBase) -> Windows:
        """Sequences ``[B, T]``, cut into windows.

        Raises:
            ValueError: if the batch is not ``[B, T]``.
            KeyError: if a key is missing.
        """
        return windows_of(self, tensordict, self.horizon)

    def draw(self, rows: int, time: int) -> Draws:
        """What is random in an update on ``rows`` windows of ``time`` transitions."""
        return draw(self.world_model.q, self.world_model.policy, rows, time, self.generator)

    def model_terms(self, windows: Windows, draws: Draws) -> tuple[dict[str, Tensor], dict[str, Tensor], Latents]:
        """Every weighted term of the model's objective, element by element.

        Returns:
            Losses and diagnostics, each ``[N, H]``, and what :meth:`policy_terms` needs of the latents.
        """
        model = self.world_model
        tasks = model.task_of(windows.observation)
        if model.task_embedding is not None and tasks is not None:
            model.task_embedding.renormalize_(tasks)
        with torch.no_grad():
            following = model.encode(self._moved(windows.following), tasks)
            target = self.value_target(windows, following, tasks, draws)
        action = model.vector_of(windows.action, tasks)
        before, after, age = self.roll_out(windows, action, tasks)
        x = torch.cat([model.joined(before, tasks), action], -1)
        fade = self.rho**age
        # A two-hot target is finite for any reward; the last term is 0, or NaN for a reward that is not a number.
        reward = model.reward_head.loss(model.reward_head.raw(x), windows.reward) + 0.0 * windows.reward.squeeze(-1)
        losses = {
            "consistency": self.consistency_scale * fade * (after - following).square().mean(-1),
            "reward": self.reward_scale * fade * reward,
            "value": self.value_scale * fade * model.q.loss(model.q.logits(x, keep=draws.value_keep), target),
        }
        if model.termination_head is not None:
            raw = model.termination_head.raw(after)
            losses["termination"] = self.termination_scale * model.termination_head.loss(raw, windows.terminated)
        latents = Latents(
            torch.cat([before, after[:, -1:]], 1).detach(),
            torch.cat([age, age[:, -1:] + 1], 1),
            None if tasks is None else torch.cat([tasks, tasks[:, -1:]], 1),
        )
        return losses, {"value_target": target.squeeze(-1)}, latents

    def roll_out(self, windows: Windows, action: Tensor, tasks: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Latents along the windows, by the dynamics from where they begin.

        Args:
            windows: where latents begin, and from what.
            action: action vectors, ``[N, H, A]``.
            tasks: ``[N, H]``, or ``None``.

        Returns:
            z_t before each transition and z_{t+1} after it, ``[N, H, L]``; and t, counted from where the latent
            began, ``[N, H]``.
        """
        model, begins = self.world_model, windows.begins
        rows, steps = begins.nonzero(as_tuple=True)
        seen = self._moved({key: value[rows, steps] for key, value in windows.observation.items()})
        fresh = model.encode(seen, None if tasks is None else tasks[rows, steps])
        start = fresh.new_zeros(*begins.shape, fresh.shape[-1]).index_put((rows, steps), fresh)
        embedding = model.embedding_of(tasks)
        origins, afters = [], []
        for t in range(begins.shape[1]):
            z = start[:, t] if t == 0 else torch.where(begins[:, t, None], start[:, t], afters[-1])
            origins.append(z)
            parts = [z, action[:, t]] if embedding is None else [z, embedding[:, t], action[:, t]]
            afters.append(model.dynamics.compute(torch.cat(parts, -1)))
        steps = torch.arange(begins.shape[1], device=begins.device)
        age = steps - torch.where(begins, steps, 0).cummax(1).values
        return torch.stack(origins, 1), torch.stack(afters, 1), age

    def value_target(self, windows: Windows, following: Tensor, tasks: Tensor | None, draws: Draws) -> Tensor:
        """``r + gamma (1 - terminated) min(q_i, q_j)`` at the latents that follow, ``[N, H, 1]``."""
        model = self.world_model
        feat = model.joined(following, tasks)
        action = model.policy.choose(feat, draws.target_noise, model.mask_of(tasks)).action
        q = model.target_q
        values = q.mean(q.logits(torch.cat([feat, action], -1), draws.target_members))
        discount = self.discounts[0] if tasks is None else self.discounts[tasks].unsqueeze(-1)
        going_on = (~windows.terminated).to(values.dtype)
        return windows.reward + discount * going_on * values.amin(-1, keepdim=True)

    def policy_terms(
        self, latents: Latents, draws: Draws, weight: Tensor | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The loss of the policy prior and its diagnostics, each ``[N, H + 1]``; see :func:`policy_terms`."""
        numbers = {"rho": self.rho, "entropy_scale": self.entropy_scale, "scale": self.policy_scale}
        losses, info, self._next_scale = policy_terms(
            self.world_model, latents, draws, average=self.average, weight=weight, **numbers
        )
        return losses, info

    def _moved(self, observation: Mapping[str, Tensor]) -> Observation:
        """Images moved by a few pixels, each by its own; all images of one observation alike."""
        keys = self.world_model.encoder.groups.image_keys
        if not keys:
            return dict(observation)
        lead = observation[keys[0]].shape[:-3]
        generator = self.generator
        shift = torch.randint(2 * SHIFT + 1, (*lead, 2), generator=generator, device=generator.device)
        return {k: shifted_images(v, shift, SHIFT) if k in keys else v for k, v in observation.items()}
