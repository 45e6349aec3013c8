"""A recurrent actor-critic that learns in dreams of frames, which begin behind real ones."""

import copy
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, cast

import torch
from tensordict import NestedKey, TensorDict, TensorDictBase
from tensordict.nn import dispatch
from torch import Tensor
from torch.optim import Optimizer
from torchrl.objectives import LossModule

from wmcomponents._arguments import whole
from wmcomponents.agents.actor_critic.optimizers import SharedAdam
from wmcomponents.agents.actor_critic.recurrent import (
    RecurrentActorCritic,
    recurrent_losses,
    recurrent_returns,
    until_first_end,
)
from wmcomponents.agents.actor_critic.recurrent_policy import RecurrentPolicy, View
from wmcomponents.dream.replay_starts import last_states
from wmcomponents.dream.starts import model_device, where_rows
from wmcomponents.dream.uncertainty import UNCERTAINTY, Uncertainty
from wmcomponents.functional.broadcast import aligned
from wmcomponents.nn.mode import EvalMode
from wmcomponents.objectives import ExponentialAverage, PeriodicCopy
from wmcomponents.world_model import Needs, State, WorldModel, keys_of

NEEDS = Needs(("decode", "reward"), actions="one choice", observations="one image")
Memory = tuple[Tensor, Tensor]
Ends = Literal["ignore", "stop", "restart"]
"""What follows a dreamt end: the dream as it is (IRIS), nothing that counts (Delta-IRIS), a new start (DIAMOND)."""


class RecurrentDream(NamedTuple):
    """What a batch of dreams holds, of steps 0 .. H - 1.

    Attributes:
        frames: that the policy read, ``[N, H, H', W', C]``.
        logits: of the actions, ``[N, H, A]``; with gradients.
        action: numbers of those taken, int64 ``[N, H]``.
        raw_value: what the critic said, ``[N, H, V]``; with gradients.
        reward: of each step, ``[N, H]``.
        ended: whether the step ended its episode, bool ``[N, H]``.
        value: expected by the critic, or its target network, ``[N, H]``.
        next_value: the same of the frame that each step led to, ``[N, H]``.
        uncertainty: of each step, ``[N, H]``; ``None`` where it is not measured.
    """

    frames: Tensor
    logits: Tensor
    action: Tensor
    raw_value: Tensor
    reward: Tensor
    ended: Tensor
    value: Tensor
    next_value: Tensor
    uncertainty: Tensor | None = None


class RecurrentImaginationLoss(LossModule):
    r"""The objective of a recurrent actor-critic, on dreams that go on from real sequences.

    A dream begins in the last frame of each sequence: the world model's state is what its filter makes of the last
    ``context`` frames, the memory of actor and critic is what they make of up to ``burn_in`` frames before the last.
    Frames of another episode are left out of both. Then, H times: the policy reads the frame (the real one, later
    ``model.decode`` of the dreamt state), an action is drawn, the model dreams a step, and the end is drawn from its
    probability. The world model gets no gradient and is used in eval mode.

    Keys read: the world model's observation keys ``[B, T, ...]``, ``action`` ``[B, T, ...]``, ``is_init``
    ``[B, T, 1]``.

    Keys written: ``loss_actor``, ``loss_critic``, ``loss_entropy``, means over dreams and steps; detached diagnostics
    ``return`` and ``value`` (means), ``entropy`` (nats), ``dream_length`` (steps up to the first end, at most H), and
    ``uncertainty`` (mean), where it is measured.

    Memory: gradients keep the activations of N * H frames; at the papers' sizes about 1 MB for a frame of 64x64.

    Args:
        world_model: the model to dream in; decodes one image, predicts rewards, and is acted on by one choice.
        network: actor and critic.
        horizon: H, steps of a dream whose returns are learned from.
        discount: :math:`\gamma`.
        lam: :math:`\lambda`.
        entropy_scale: weight of the policy's entropy.
        burn_in: frames that the memory reads at most before a dream.
        context: frames that the model's filter reads at most, the last one included; all if not given.
        reward: what is made of the model's rewards ``[N]`` of a step, such as ``torch.sign`` (DIAMOND); they themselves
            if not given.
        ends: what follows a dreamt end: ``"ignore"``, ``"stop"`` or ``"restart"``.
        follow: how the target network follows whose values are baseline and bootstrap; without, they are the critic's.
        view: what the policy reads of real frames, such as :class:`Reconstruction`; the frames themselves if not given.
        uncertainty: what is measured of every dreamt step, and what becomes of its reward and its end, as in
            :func:`~wmcomponents.dream.imagine`. What is made of rewards comes first.
        epsilon: share of uniform choices among the actions that the policy draws in reality.
        optimizer: makes the optimiser.
        seed: of the dreams.

    Raises:
        CapabilityError: if the model has no decoder or no rewards, shows anything but one image, is not acted on by
            one choice, or cannot tell the uncertainty that is asked for.
        ValueError: if a number is out of range; on call, if the input is no batch of sequences.
        KeyError: on call, if a key is missing.

    Reference: Micheli et al., IRIS (2023); Micheli et al., Delta-IRIS (2024); Alonso et al., DIAMOND (2024).
    """

    network: RecurrentActorCritic
    target_network: RecurrentActorCritic | None

    def __init__(
        self,
        world_model: WorldModel,
        network: RecurrentActorCritic,
        *,
        horizon: int = 15,
        discount: float = 0.985,
        lam: float = 0.95,
        entropy_scale: float = 1e-3,
        burn_in: int = 20,
        context: int | None = None,
        reward: Callable[[Tensor], Tensor] | None = None,
        ends: Ends = "restart",
        follow: ExponentialAverage | PeriodicCopy | None = None,
        view: View | None = None,
        uncertainty: Uncertainty | None = None,
        epsilon: float = 0.0,
        optimizer: SharedAdam | None = None,
        seed: int = 0,
    ) -> None:
        NEEDS.check(world_model, "A recurrent actor-critic")
        if ends not in ("ignore", "stop", "restart"):
            raise ValueError(f"ends is 'ignore', 'stop' or 'restart'; got {ends!r}.")
        for name, value in (("discount", discount), ("lam", lam)):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} is a share in [0, 1]; got {value}.")
        if uncertainty is not None:
            uncertainty.check(world_model)
            uncertainty.try_out(world_model)
        super().__init__()
        self.uncertainty = uncertainty
        self.horizon = whole("horizon", horizon, 1, "a number of imagined steps, at least 1")
        self.burn_in = whole("burn_in", burn_in, 0, "a number of real frames, at least 0")
        self.context = None if context is None else whole("context", context, 1, "a number of real frames, at least 1")
        self.network = network
        self.target_network = None if follow is None else copy.deepcopy(network).requires_grad_(False)
        self.discount, self.lam, self.entropy_scale = discount, lam, entropy_scale
        self.follow, self.ends = follow, ends
        self.optimizer = SharedAdam() if optimizer is None else optimizer
        (self.image_key,) = keys_of(world_model.observation_spec)
        # In tuples, so that they are no part of what is trained and saved.
        self._world_model, self._shown, self._reward = (world_model,), (view,), reward
        self._seed, self._generator = seed, cast("torch.Generator | None", None)
        policy = RecurrentPolicy(network, world_model.action_spec, image_key=self.image_key)
        real = policy if view is None and not epsilon else RecurrentPolicy(
            network, world_model.action_spec, image_key=self.image_key, view=view, epsilon=epsilon
        )  # fmt: skip
        self._policies = (policy, real)
        told = _DIAGNOSTICS if uncertainty is None else (*_DIAGNOSTICS, UNCERTAINTY)
        self.out_keys = cast(Any, [*LOSSES, *told])
        self.to(model_device(world_model))

    @property
    def world_model(self) -> WorldModel:
        """The model that is dreamt in."""
        return self._world_model[0]

    @property
    def policy(self) -> RecurrentPolicy:
        """Acts in a dream, on decoded frames; shares the network."""
        return self._policies[0]

    @property
    def real_policy(self) -> RecurrentPolicy:
        """Acts on the real environment's frames, seen through the view."""
        return self._policies[1]

    @property
    def in_keys(self) -> list[NestedKey]:
        """Keys read."""
        return [*keys_of(self.world_model.observation_spec), "action", "is_init"]

    @in_keys.setter
    def in_keys(self, value: Any) -> None:
        raise AttributeError("in_keys are the model's observation keys, action and is_init.")

    def _forward_value_estimator_keys(self, **kwargs: Any) -> None:
        """No value is estimated by TorchRL's estimators here."""

    @property
    def generator(self) -> torch.Generator:
        """The generator of the dreams, on the model's device: ``generator.manual_seed(0)`` repeats them."""
        device = model_device(self.world_model)
        if self._generator is None or self._generator.device != device:
            self._generator = torch.Generator(device).manual_seed(self._seed)
        return self._generator

    def make_optimizer(self, lr: float | None = None, warmup: int | None = None) -> Optimizer:
        """The optimiser over actor and critic.

        Args:
            lr: learning rate; the paper's if not given.
            warmup: steps over which the rate grows from 0; the paper's if not given.
        """
        return self.optimizer.make(self.network, lr, warmup)

    def after_update(self, step: int) -> None:
        """Let the target network follow, after step ``step`` (from 0) was taken."""
        if self.follow is not None and self.target_network is not None:
            self.follow.update(self.target_network, self.network, step)

    def frames_read(self, steps: int) -> int:
        """Frames of a sequence of so many steps that a dream reads, its first one included."""
        return max(self.burn_in + 1, self.context or steps)

    def dream(self, sequences: TensorDictBase) -> RecurrentDream:
        """A dream from the last frame of each sequence.

        Args:
            sequences: real ones ``[B, T]`` in TorchRL's layout.

        Raises:
            ValueError: if it is no batch of sequences, or the model returns no reward.
            KeyError: if a key is missing.
        """
        start = self._start(sequences)
        model, network, target = self.world_model, self.network, self.target_network
        rows = len(start.frame)
        imagine = model.imagine_inplace if "inplace" in model.capabilities else model.imagine
        noise, generator = model.noise_source("imagine"), self.generator
        mode = EvalMode(model)
        now = start.copied() if self.ends == "restart" else start
        seen, steps, actions, rewards, ended, targets, unknown = [], [], [], [], [], [], []
        for t in range(self.horizon):
            seen.append(now.frame)
            step = network.step(now.frame, *now.memory)
            expected = target.step(now.frame, *now.slow) if target is not None else None
            with torch.no_grad():
                draw = self.policy.actions.draw((rows,), generator)
                vector = self.policy.actions.sample(step.logits, draw)
                action = self.policy.action_vector.inverse(vector)
                with mode:
                    if self.uncertainty is not None:  # before a step that may write into the state
                        unknown.append(self.uncertainty.measured(model, now.state, action, (rows, 1)))
                    state, reward, cont = imagine(now.state, action, noise((rows,), generator))
                    frame = model.decode(state)[self.image_key]
                if reward is None:
                    raise ValueError(f"{type(model).__name__} says that it predicts rewards, and returned none.")
                over = torch.zeros(rows, 1, dtype=torch.bool, device=frame.device)
                if cont is not None:
                    over = torch.rand(cont.shape, generator=generator, device=cont.device) >= cont
                if self._reward is not None:
                    reward = self._reward(reward.squeeze(-1)).unsqueeze(-1)
                if self.uncertainty is not None:
                    reward, halted = self.uncertainty.judged(reward, unknown[-1])
                    over = over if halted is None else over | halted
                if expected is not None:
                    targets.append(expected)
            slow = now.slow if expected is None else (expected.hx, expected.cx)
            now = _Situation(state, frame, (step.hx, step.cx), slow)
            steps.append(step)
            actions.append(vector.argmax(-1))
            rewards.append(reward.squeeze(-1))
            ended.append(over.squeeze(-1))
            # On a CPU a look is cheaper than new states; on an accelerator it would be waited for.
            if self.ends == "restart" and t + 1 < self.horizon and (over.device.type != "cpu" or bool(over.any())):
                now = now.where(over, start)
        with torch.no_grad():
            last = network.step(now.frame, *now.memory) if target is None else target.step(now.frame, *now.slow)
            says = network.value if target is None else target.value
            spoken = [step.raw_value for step in (steps if target is None else targets)]
            value = says.mean(torch.stack([*spoken, last.raw_value], 1)).squeeze(-1)
        return RecurrentDream(
            torch.stack(seen, 1),
            torch.stack([step.logits for step in steps], 1),
            torch.stack(actions, 1),
            torch.stack([step.raw_value for step in steps], 1),
            torch.stack(rewards, 1),
            torch.stack(ended, 1),
            value[:, :-1],
            value[:, 1:],
            torch.cat(unknown, 1) if unknown else None,
        )

    @dispatch()
    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """The losses of a dream from each sequence of a batch ``[B, T]``; the input is left as it is."""
        dreamt = self.dream(tensordict)
        returns = recurrent_returns(
            dreamt.reward, dreamt.ended, dreamt.next_value, discount=self.discount, lam=self.lam
        )
        before_end = until_first_end(dreamt.ended)
        losses = recurrent_losses(
            dreamt.logits,
            dreamt.action,
            dreamt.raw_value,
            returns,
            self.network.value,
            entropy_scale=self.entropy_scale,
            baseline=dreamt.value,
            counts=before_end if self.ends == "stop" else None,
        )
        with torch.no_grad():
            entropy = torch.distributions.Categorical(logits=dreamt.logits, validate_args=False).entropy().mean()
        told = {} if dreamt.uncertainty is None else {UNCERTAINTY: dreamt.uncertainty.mean()}
        return TensorDict(
            {
                **told,
                "loss_actor": losses.actor,
                "loss_critic": losses.critic,
                "loss_entropy": losses.entropy,
                "return": returns.mean(),
                "value": dreamt.value.mean(),
                "entropy": entropy,
                "dream_length": before_end.float().sum(-1).mean(),
            }
        )

    def _start(self, sequences: TensorDictBase) -> "_Situation":
        missing = [key for key in self.in_keys if key not in sequences.keys()]
        if missing:
            raise KeyError(f"dreams begin behind real sequences with {self.in_keys}; {missing} are not in the input.")
        if sequences.ndim != 2 or sequences.batch_size[1] < 1:
            raise ValueError(
                f"a recurrent actor-critic reads real sequences [B, T], such as replay.sample() gives; got a batch "
                f"{list(sequences.batch_size)}."
            )
        device = model_device(self.world_model)
        read = self.frames_read(sequences.batch_size[1])
        sequences = cast(TensorDictBase, sequences.select(*self.in_keys)[:, -read:]).to(device)
        seen = cast(TensorDictBase, sequences[:, -(self.context or read) :])
        state = last_states(self.world_model, seen, generator=self.generator)
        with torch.no_grad():
            frames = cast(Tensor, sequences[self.image_key])[:, -self.burn_in - 1 :]
            (view,) = self._shown
            if view is not None:
                frames = view(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
            begins = cast(Tensor, sequences["is_init"]).reshape(sequences.batch_size)[:, -frames.shape[1] :]
            later = begins.flip(1).cumsum(1).flip(1)  # how many episodes begin at a frame or behind it
            known = later[:, 1:] == 0
            memory = self.network.burn_in(frames[:, :-1], known)
            slow = memory if self.target_network is None else self.target_network.burn_in(frames[:, :-1], known)
        return _Situation(state, frames[:, -1], memory, slow)


class _Situation(NamedTuple):
    """Where dreams stand: the model's state, the frame it shows, and what actor, critic and target remember."""

    state: State
    frame: Tensor
    memory: Memory
    slow: Memory

    def copied(self) -> "_Situation":
        """The same with a state to be given away."""
        return self._replace(state={key: value.clone() for key, value in self.state.items()})

    def where(self, over: Tensor, start: "_Situation") -> "_Situation":
        """Another row's start in place of what is over ``[N, 1]``."""

        def either(new: Tensor, old: Tensor) -> Tensor:
            return torch.where(aligned(over, old), new.roll(1, 0), old)

        memory, slow = (
            cast(Memory, tuple(either(new, old) for new, old in zip(*pair, strict=True)))
            for pair in ((start.memory, self.memory), (start.slow, self.slow))
        )
        rolled = {key: value.roll(1, 0) for key, value in start.state.items()}
        return _Situation(where_rows(over, rolled, self.state), either(start.frame, self.frame), memory, slow)


LOSSES = ("loss_actor", "loss_critic", "loss_entropy")
_DIAGNOSTICS = ("return", "value", "entropy", "dream_length")
