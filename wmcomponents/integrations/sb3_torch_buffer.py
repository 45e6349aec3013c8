"""SB3's on-policy algorithms in tensors: nothing leaves the device between a dream and its policy."""

import time
from collections.abc import Generator, Mapping
from functools import cache
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from wmcomponents._extras import require
from wmcomponents.dream.checks import not_finite, rows_not_finite

require("stable_baselines3", extra="sb3")

from gymnasium import spaces  # noqa: E402
from stable_baselines3 import A2C, PPO  # noqa: E402
from stable_baselines3.common.buffers import BaseBuffer, DictRolloutBuffer, RolloutBuffer  # noqa: E402
from stable_baselines3.common.callbacks import BaseCallback  # noqa: E402
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm  # noqa: E402
from stable_baselines3.common.type_aliases import DictRolloutBufferSamples, RolloutBufferSamples  # noqa: E402
from stable_baselines3.common.vec_env import VecEnv, VecTransposeImage  # noqa: E402

from wmcomponents.integrations.sb3 import DreamVecEnv  # noqa: E402

Seen = Tensor | dict[str, Tensor]
"""Observations of all rows, ``[N, ...]``; a dict of them for a ``Dict`` space."""

_NUMBERS = ("rewards", "episode_starts", "values", "log_probs", "advantages", "returns")


class TorchRolloutBuffer(RolloutBuffer):
    """SB3's rollout buffer with its numbers in tensors on the algorithm's device, for plain and ``Dict`` observations.

    Advantages, returns and the order of the mini-batches are those of the stock buffer. Used in
    ``PPO(..., rollout_buffer_class=TorchRolloutBuffer)`` it takes SB3's arrays; with :func:`on_device` it takes tensors
    that stay where they are.

    Attributes:
        tensors: ``actions``, ``rewards``, ``episode_starts``, ``values``, ``log_probs``, ``advantages``, ``returns``:
            ``[T, N, ...]``; after the first mini-batch of a rollout ``[N * T, ...]``, row after row.
        seen: the observations, in the same layout.
    """

    def reset(self) -> None:
        """Forget the rollout."""
        shape, device = (self.buffer_size, self.n_envs), self.device
        space = self.observation_space
        if isinstance(space, spaces.Dict):
            sizes = cast("dict[str, tuple[int, ...]]", self.obs_shape)
            self.seen: Seen = {
                key: torch.zeros((*shape, *sizes[key]), dtype=_dtype(entry), device=device)
                for key, entry in space.items()
            }
        else:
            self.seen = torch.zeros((*shape, *self.obs_shape), dtype=_dtype(space), device=device)
        self.tensors = {name: torch.zeros(shape, device=device) for name in _NUMBERS}
        self.tensors["actions"] = torch.zeros((*shape, self.action_dim), dtype=_dtype(self.action_space), device=device)
        self.generator_ready = False
        BaseBuffer.reset(self)

    def add(self, obs: Any, action: Any, reward: Any, episode_start: Any, value: Tensor, log_prob: Tensor) -> None:
        """Keep one step of all rows.

        Args:
            obs: observations ``[N, ...]``, arrays or tensors; a dict of them for a ``Dict`` space.
            action: ``[N, ...]``.
            reward: ``[N]``.
            episode_start: bool ``[N]``: whether the observation is the first of its episode.
            value: ``[N, 1]``.
            log_prob: ``[N]``.
        """
        if isinstance(self.seen, dict):
            for key, kept in self.seen.items():
                _keep(kept[self.pos], obs[key])
        else:
            _keep(self.seen[self.pos], obs)
        given = {"actions": action, "rewards": reward, "episode_starts": episode_start}
        for name, entry in {**given, "values": value, "log_probs": log_prob}.items():
            _keep(self.tensors[name][self.pos], entry)
        self.pos += 1
        self.full = self.pos == self.buffer_size

    @torch.no_grad()
    def compute_returns_and_advantage(self, last_values: Tensor, dones: Any) -> None:
        """Generalised advantages, and the returns of TD(lambda).

        Args:
            last_values: of the observations after the last step, ``[N, 1]``.
            dones: bool ``[N]``: whether the last step ended an episode.

        Reference: Schulman et al., High-Dimensional Continuous Control Using Generalized Advantage Estimation (2016).
        """
        t = self.tensors
        last = torch.as_tensor(dones, device=self.device).reshape(1, -1).float()
        going_on = 1.0 - torch.cat([t["episode_starts"][1:], last])
        following = torch.cat([t["values"][1:], last_values.detach().to(self.device).reshape(1, -1)])
        errors = (t["rewards"] + self.gamma * following * going_on - t["values"]).unbind()
        decays = (self.gamma * self.gae_lambda * going_on).unbind()
        advantage = torch.zeros_like(errors[0])
        found = []
        for error, decay in zip(reversed(errors), reversed(decays), strict=True):
            advantage = error + decay * advantage
            found.append(advantage)
        t["advantages"] = torch.stack(found[::-1])
        t["returns"] = t["advantages"] + t["values"]

    def get(self, batch_size: int | None = None) -> Generator[Any, None, None]:
        """Mini-batches of the rollout in random order, drawn from NumPy's generator as the stock buffer's are.

        Args:
            batch_size: steps of one; all at once if not given.
        """
        if not self.full:
            raise RuntimeError(f"the rollout has {self.pos} of {self.buffer_size} steps: collect the others first.")
        total = self.buffer_size * self.n_envs
        order = torch.from_numpy(np.random.permutation(total)).to(self.device, non_blocking=True)
        if not self.generator_ready:
            self.seen = _each(self.seen, _flat)
            self.tensors = {name: _flat(entry) for name, entry in self.tensors.items()}
            self.generator_ready = True
        for chosen in order.split(batch_size or total):
            yield self._samples_at(chosen)

    def _samples_at(self, chosen: Tensor) -> Any:
        t = self.tensors
        numbers = (t[name][chosen] for name in ("values", "log_probs", "advantages", "returns"))
        actions, seen = t["actions"][chosen].float(), _each(self.seen, lambda kept: kept[chosen])
        if isinstance(seen, dict):
            return DictRolloutBufferSamples(cast(Any, seen), actions, *numbers)
        return RolloutBufferSamples(seen, actions, *numbers)


def _on_host(name: str) -> property:
    """The stock buffer's name for an array: a copy on the host, for what reads it (SB3's explained variance)."""
    return property(lambda buffer: buffer.tensors[name].cpu().numpy())


for _name in ("actions", *_NUMBERS):
    setattr(TorchRolloutBuffer, _name, _on_host(_name))

A = TypeVar("A", bound=OnPolicyAlgorithm)


@cache
def on_device(algorithm: type[A]) -> type[A]:
    """An on-policy algorithm of SB3 that collects in a dream without leaving the device.

    It learns what the stock algorithm learns (on a CPU from the same seeds, up to rounding), is saved and loaded like
    it, and either loads the other's files. ``ep_info_buffer`` holds the episodes' returns without ``VecMonitor``.
    Callbacks find tensors in their ``locals`` (``rewards``, ``dones``), and empty ``infos``.

    Args:
        algorithm: PPO, A2C, or another class whose rollouts are SB3's own, such as ``sb3_contrib.TRPO``.

    Returns:
        A subclass. Its environment is a :class:`DreamVecEnv`, bare or in the ``VecTransposeImage`` that SB3 adds.

    Raises:
        TypeError: if the algorithm collects in its own way.

    Example:
        >>> from stable_baselines3 import PPO
        >>> from torchrl.data import Composite, OneHot, Unbounded
        >>> from wmcomponents.integrations.sb3 import DreamVecEnv
        >>> from wmcomponents.testing.toy import ToyWorldModel
        >>> dream = DreamVecEnv(ToyWorldModel(Composite(observation=Unbounded(4)), OneHot(2)), 4, horizon=5)
        >>> on_device(PPO)("MlpPolicy", dream, n_steps=8, batch_size=16, device="cpu").learn(32).num_timesteps
        32
    """
    if not issubclass(algorithm, OnPolicyAlgorithm) or (
        algorithm.collect_rollouts is not OnPolicyAlgorithm.collect_rollouts
    ):
        raise TypeError(
            f"{algorithm.__name__} collects its experience in a way of its own: use it as it is, on a DreamVecEnv."
        )
    return cast("type[A]", type(f"Torch{algorithm.__name__}", (_OnDevice, algorithm), {"__module__": __name__}))


class _OnDevice(OnPolicyAlgorithm):
    """The overrides of :func:`on_device`."""

    def _setup_model(self) -> None:
        if self.env is not None:
            _check(self.env, self.device)
        if self.rollout_buffer_class in (None, RolloutBuffer, DictRolloutBuffer):
            self.rollout_buffer_class = TorchRolloutBuffer
        if not issubclass(cast(type, self.rollout_buffer_class), TorchRolloutBuffer):
            raise TypeError(
                f"rollouts in tensors are kept in a TorchRolloutBuffer or a subclass; got {self.rollout_buffer_class}."
            )
        self._counted = np.zeros((2, self.n_envs))
        super()._setup_model()

    def set_env(self, env: Any, force_reset: bool = True) -> None:
        """Go on in another dream.

        Args:
            env: a :class:`DreamVecEnv`.
            force_reset: begin its episodes.

        Raises:
            TypeError: if it is another environment.
        """
        super().set_env(env, force_reset)
        _check(cast(VecEnv, self.env), self.device)
        self._counted = np.zeros((2, self.n_envs))

    def _setup_learn(self, total_timesteps: int, callback: Any = None, reset_num_timesteps: bool = True, *rest: Any):
        if reset_num_timesteps or self._last_obs is None:  # the episodes begin anew
            self._counted = np.zeros((2, self.n_envs))
        return super()._setup_learn(total_timesteps, callback, reset_num_timesteps, *rest)

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """Fill the buffer with dreamt steps.

        Args:
            env: the dream.
            callback: called at each step.
            rollout_buffer: a :class:`TorchRolloutBuffer`.
            n_rollout_steps: steps of each row.

        Returns:
            False if the callback stopped it.

        Raises:
            NotFiniteError: at the end, if a reward or an observation is not finite; nothing is learned from it.
        """
        dream, policy, device = _TensorDream(env), self.policy, self.device
        policy.set_training_mode(False)
        rollout_buffer.reset()
        if self.use_sde:
            policy.reset_noise(env.num_envs)
        callback.on_rollout_start()
        new_obs: Seen = _each(self._last_obs, lambda seen: torch.as_tensor(seen, device=device))
        dones = torch.as_tensor(self._last_episode_starts, device=device)
        infos: list[dict[str, Any]] = [{} for _ in range(env.num_envs)]
        earned, ended = [], []
        for n_steps in range(n_rollout_steps):
            if self.use_sde and self.sde_sample_freq > 0 and n_steps % self.sde_sample_freq == 0:
                policy.reset_noise(env.num_envs)
            seen, starts = new_obs, dones
            with torch.no_grad():
                actions, values, log_probs = policy(seen)
                last, rewards, dones, truncated = dream.step(self._bounded(actions))
                earned.append(rewards)
                ended.append(dones)
                bonus = None if truncated is None else self._value_of_cut(last, truncated)
                new_obs = dream.restarted(last, dones)
            self.num_timesteps += env.num_envs
            callback.update_locals(locals())
            if not callback.on_step():
                self._last_obs, self._last_episode_starts = cast(Any, new_obs), cast(Any, dones)
                return False
            kept = rewards if bonus is None else rewards + bonus
            rollout_buffer.add(
                cast(Any, seen), cast(Any, actions), cast(Any, kept), cast(Any, starts), values, log_probs
            )
        self._last_obs, self._last_episode_starts = cast(Any, new_obs), cast(Any, dones)
        self._count(torch.stack(earned), torch.stack(ended), dream)
        with torch.no_grad():
            values = policy.predict_values(cast(Any, new_obs))
        rollout_buffer.compute_returns_and_advantage(last_values=values, dones=cast(Any, dones))
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def _bounded(self, actions: Tensor) -> Tensor:
        """Actions as the environment takes them; the dream clips those beyond its bounds by itself."""
        space = self.action_space
        if isinstance(space, spaces.Box) and self.policy.squash_output:
            low, high = (torch.as_tensor(bound, device=actions.device) for bound in (space.low, space.high))
            return low + 0.5 * (actions + 1.0) * (high - low)
        return actions

    def _value_of_cut(self, last: Seen, truncated: Tensor) -> Tensor | None:
        """What the rows ``[N]`` cut by the horizon are still worth, discounted; 0 for the others."""
        if truncated.device.type == "cpu":  # where looking is free, only they are valued
            rows = truncated.nonzero().squeeze(1)
            if not len(rows):
                return None
            worth = self.policy.predict_values(cast(Any, _each(last, lambda seen: seen[rows])))
            return torch.zeros(len(truncated)).index_put((rows,), self.gamma * worth.squeeze(1))
        worth = self.policy.predict_values(cast(Any, last)).squeeze(1)
        return torch.where(truncated, self.gamma * worth, 0.0)

    def _count(self, earned: Tensor, ended: Tensor, dream: "_TensorDream") -> None:
        """Note the episodes that ended in a rollout ``[T, N]``: here its rewards come to the host, all at once."""
        rewards, ends = earned.cpu().numpy(), ended.cpu().numpy()
        odd = rows_not_finite(rewards)
        if odd:
            rows = rows_not_finite(rewards[odd[0]])
            raise not_finite(f"the dreamt 'reward' of step {odd[0]} of the rollout", rows, dream.simulator.model)
        _check_seen(cast(Any, self._last_obs), dream)
        begin = 0
        for step in np.flatnonzero(ends.any(1)):
            self._counted += rewards[begin : step + 1].sum(0), np.full(self.n_envs, step + 1 - begin)
            for row in np.flatnonzero(ends[step]):
                told = {"r": float(self._counted[0, row]), "l": int(self._counted[1, row]), "t": time.time()}
                cast(Any, self.ep_info_buffer).append(told)
            self._counted[:, ends[step]] = 0.0
            begin = step + 1
        self._counted += rewards[begin:].sum(0), np.full(self.n_envs, len(rewards) - begin)


class _TensorDream:
    """A ``DreamVecEnv`` that is stepped in tensors, images laid out as its wrapper lays them out."""

    def __init__(self, env: VecEnv) -> None:
        self._images: tuple[str, ...] | None = ()
        if isinstance(env, VecTransposeImage):
            inner = env.venv.observation_space
            self._images = tuple(env.image_space_keys) if isinstance(inner, spaces.Dict) else None
            if env.skip:
                self._images = ()
            env = env.venv
        self.env = cast(DreamVecEnv, env)
        self.simulator = self.env.simulator
        self._on_host = self.simulator.device.type == "cpu"

    def step(self, actions: Tensor) -> tuple[Seen, Tensor, Tensor, Tensor | None]:
        """Last observations, rewards, whether rows are done; which the horizon alone cut, or ``None``: none was."""
        simulator = self.simulator
        step = simulator.step(self.env.reader(actions, simulator.batch_size))
        ends, cuts = step.terminated[:, 0], step.truncated[:, 0]
        cut = cuts & ~ends if simulator.may_truncate else None
        return self._shown(step.observation), step.reward[:, 0].float(), ends | cuts, cut

    def restarted(self, last: Seen, dones: Tensor) -> Seen:
        """The observations with those of new episodes where rows are done."""
        simulator = self.simulator
        # On an accelerator nobody waits for the answer: a restart of no row changes nothing.
        if simulator.all_running or (self._on_host and not bool(dones.any())):
            return last
        return self._shown(simulator.reset(simulator.done))

    def _shown(self, observation: Mapping[str, Tensor]) -> Seen:
        seen = self.env.writer.write(observation)
        if self._images is None:
            return _channels_first(seen)
        return {**seen, **{key: _channels_first(seen[key]) for key in self._images}} if self._images else seen


def _check(env: VecEnv, device: torch.device) -> None:
    """Refuse what cannot be stepped in tensors."""
    inner = env.venv if isinstance(env, VecTransposeImage) else env
    if not isinstance(inner, DreamVecEnv):
        raise TypeError(
            f"rollouts in tensors need a DreamVecEnv, without wrappers around it; got a {type(inner).__name__}. "
            f"VecMonitor can be left out (episodes are counted without it); for VecNormalize, VecFrameStack and real "
            f"environments use SB3's own algorithm, with rollout_buffer_class=TorchRolloutBuffer if you like."
        )
    own = type(inner)
    if own.step_wait is not DreamVecEnv.step_wait or own.reset is not DreamVecEnv.reset:
        raise TypeError(
            f"{own.__name__} has its own reset() or step_wait(), which rollouts in tensors would pass by: use SB3's "
            f"own algorithm."
        )
    where = inner.simulator.device
    if where.type != device.type or (where.index or 0) != (device.index or 0):
        raise TypeError(
            f"the dream is on {where} and the policy on {device}: pass device='{where}' to the algorithm, or move the "
            f"model."
        )


def _check_seen(seen: Seen, dream: _TensorDream) -> None:
    for key, value in (seen if isinstance(seen, dict) else {"observation": seen}).items():
        if value.dtype.is_floating_point and not bool(torch.isfinite(value).all()):
            raise not_finite(f"the dreamt {key!r}", rows_not_finite(value.cpu().numpy()), dream.simulator.model)


def _each(seen: Any, change: Any) -> Any:
    return {key: change(value) for key, value in seen.items()} if isinstance(seen, dict) else change(seen)


def _keep(place: Tensor, value: Any) -> None:
    """Copy into a place, of whatever shape the value comes in."""
    place.copy_(torch.as_tensor(value).detach().reshape(place.shape), non_blocking=True)


def _flat(kept: Tensor) -> Tensor:
    """``[T, N, ...]`` as ``[N * T, ...]``."""
    return kept.transpose(0, 1).reshape(-1, *kept.shape[2:])


def _dtype(space: spaces.Space) -> torch.dtype:
    return torch.from_numpy(np.empty(0, space.dtype)).dtype


def _channels_first(images: Tensor) -> Tensor:
    return images.permute(0, 3, 1, 2)


TorchPPO = on_device(PPO)
"""PPO in tensors."""

TorchA2C = on_device(A2C)
"""A2C in tensors."""
