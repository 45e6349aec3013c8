"""The algorithms of Stable-Baselines3 as agents: needs, learning in dreams, a policy for dream and reality, state."""

from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, TypeVar, cast

import numpy as np
import torch
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torchrl.data import Composite

from wmcomponents._arguments import whole
from wmcomponents._extras import require
from wmcomponents.data.episodes import derived_seed
from wmcomponents.dream.experience import Experience
from wmcomponents.dream.options import DreamOptions
from wmcomponents.integrations.sb3_state import drawing_apart, load_state, state_of
from wmcomponents.training import DivergedError
from wmcomponents.world_model import LatentPolicy, Needs, WorldModel
from wmcomponents.world_model.needs import Actions, is_image
from wmcomponents.world_model.spec_checks import items_of

sb3: Any = require("stable_baselines3", extra="sb3")

from gymnasium import spaces  # noqa: E402
from stable_baselines3.common.base_class import BaseAlgorithm  # noqa: E402
from stable_baselines3.common.logger import Logger  # noqa: E402
from stable_baselines3.common.noise import NormalActionNoise  # noqa: E402
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm  # noqa: E402
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm  # noqa: E402
from stable_baselines3.common.preprocessing import get_flattened_obs_dim, is_image_space  # noqa: E402
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor  # noqa: E402
from stable_baselines3.common.vec_env import VecMonitor  # noqa: E402

from wmcomponents.integrations.sb3 import DreamVecEnv, SB3Policy  # noqa: E402
from wmcomponents.integrations.sb3_torch_buffer import on_device  # noqa: E402

OWN = ("PPO", "A2C", "DQN", "SAC", "TD3", "DDPG")
CONTRIB = ("TRPO", "QRDQN", "TQC", "CrossQ")
"""Of sb3-contrib, where it is installed."""

NATURE_SIDE = 36
"""Images at least so large are read by SB3's convolutions; smaller ones flat."""


class SB3Agent:
    """An algorithm of SB3 that learns in dreams, of the shape of every agent here.

    PPO, A2C and what else has SB3's own rollouts learn in tensors (:func:`on_device`); the others through NumPy.

    Args:
        algorithm: a class of SB3 or sb3-contrib, or its name in any case: ``"ppo"``, ``"a2c"``, ``"dqn"``, ``"sac"``,
            ``"td3"``, ``"ddpg"``, ``"trpo"``, ``"qrdqn"``, ``"tqc"``, ``"crossq"``.
        model: the world model.
        view: what it looks at: ``"decoded"``, as the environment shows it, or ``"latent"``, behind the model's filter
            in reality. If not given: vectors as they are, and the features of what shows images, where there are any.
        policy: SB3's; chosen by what is seen if not given.
        dreams: rows side by side.
        horizon: steps after which a dream is cut and its value bootstrapped.
        round_steps: dreamt steps, over all rows, of one call of :meth:`learn`; whole rollouts.
        schedule_steps: dreamt steps over which what SB3 anneals is annealed: DQN's exploration, learning rates that are
            functions.
        dream: further options of the dream (:class:`~wmcomponents.dream.DreamOptions`), such as ``reward``.
        seed: of weights, dreams, actions and mini-batches. Generators that others draw from are left as they are.
        **options: of the algorithm. Where not given: a rollout of PPO is a round, its batches are of 256, the replay
            buffer holds 100,000 steps, and TD3 and DDPG explore with a noise of 0.1.

    Raises:
        CapabilityError: if the model lacks what the algorithm needs: one choice for DQN, numbers for SAC, a reward.
        TypeError: if the algorithm cannot act or be kept as an agent.
        ValueError: if it is unknown.

    Example:
        >>> from torchrl.data import Composite, OneHot, Unbounded
        >>> from wmcomponents.testing.toy import ToyWorldModel
        >>> model = ToyWorldModel(Composite(observation=Unbounded(4)), OneHot(2))
        >>> agent = SB3Agent("ppo", model, dreams=4, round_steps=64, batch_size=32)
        >>> sorted(agent.learn(Experience(model)))[:2]
        ['approx_kl', 'clip_fraction']
        >>> agent.dreamed_steps
        64
    """

    learns_from: Literal["dreams"] = "dreams"

    def __init__(
        self,
        algorithm: str | type[BaseAlgorithm],
        model: WorldModel,
        *,
        view: Literal["decoded", "latent"] | None = None,
        policy: Any = None,
        dreams: int = 16,
        horizon: int | None = 50,
        round_steps: int = 1024,
        schedule_steps: int = 100_000,
        dream: DreamOptions | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        kind = algorithm_named(algorithm) if isinstance(algorithm, str) else algorithm
        _check_kind(kind)
        self.name = kind.__name__
        self.view: Literal["decoded", "latent"] = _usual_view(model) if view is None else view
        given: Any = dict(dream or {})
        self.needs = needs_of(kind, self.view, rewarded=given.get("reward") is not None)
        self.needs.check(model, f"SB3's {self.name}")
        if "continue" not in model.capabilities:
            given.setdefault("termination", "off")
        self.seed = whole("seed", seed, 0, "a number from 0 on")
        self.round_steps = whole("round_steps", round_steps, 1, "a number of steps, at least 1")
        self.dream = DreamVecEnv(
            model, dreams, horizon=horizon, view=self.view, seed=derived_seed(seed, "dream"), **given
        )
        paced = _paced(on_device(kind) if _has_own_rollouts(kind) else kind)
        self.monitor = None if _has_own_rollouts(kind) else VecMonitor(self.dream)
        env: Any = self.dream if self.monitor is None else self.monitor
        device = self.dream.simulator.device
        networks = dict(options.pop("policy_kwargs", None) or {})  # SB3 writes into it
        if policy is None and _has_small_images(self.dream.observation_space):
            networks.setdefault("features_extractor_class", FlatExtractor)
        with drawing_apart(derived_seed(seed, "weights"), device):
            chosen = _usual_policy(self.dream.observation_space) if policy is None else policy
            self.algorithm: Any = paced(
                chosen, env, device=device, policy_kwargs=networks, **{**self._usual(kind, env.action_space), **options}
            )
        self.algorithm.schedule_steps = whole("schedule_steps", schedule_steps, 1, "a number of steps, at least 1")
        self.algorithm.set_logger(Logger(None, []))
        shown = model.observation_spec if self.view == "decoded" else self.dream.simulator.observation_spec.to("cpu")
        self._policy = SB3Policy(
            self.algorithm, Composite(dict(shown.items())), model.action_spec, deterministic=None,
            seed=derived_seed(seed, "explored"),
        )  # fmt: skip
        self._real: TensorDictModuleBase = self._policy
        if self.view == "latent":
            self._real = LatentPolicy(model, self._policy, sample=True, seed=0)
        state_of(self)  # what cannot be kept is said now

    def _usual(self, kind: type[BaseAlgorithm], acted: spaces.Space) -> dict[str, Any]:
        """SB3's options where ours are others."""
        if issubclass(kind, OnPolicyAlgorithm):
            if kind.__name__ == "A2C":  # five steps are its nature
                return {}
            steps = max(8, self.round_steps // self.dream.num_envs)
            rollout = steps * self.dream.num_envs
            return {"n_steps": steps, "batch_size": 256 if rollout % 256 == 0 else rollout}
        usual: dict[str, Any] = {"buffer_size": 100_000}
        if kind.__name__ in ("TD3", "DDPG"):
            size = spaces.flatdim(acted)
            usual["action_noise"] = NormalActionNoise(np.zeros(size), np.full(size, 0.1))
        return usual

    @property
    def model(self) -> WorldModel:
        """The world model."""
        return self.dream.simulator.model

    @property
    def dream_policy(self) -> SB3Policy:
        """Acts on what its view of a dream shows; explores where TorchRL's exploration type is ``RANDOM``."""
        return self._policy

    @property
    def real_policy(self) -> TensorDictModuleBase:
        """The same on the real environment's observations, behind the filter where it looks at latents."""
        return self._real

    @property
    def dreamed_steps(self) -> int:
        """Steps dreamt so far."""
        return self.algorithm.num_timesteps

    def learn(self, experience: Experience) -> dict[str, float]:
        """One round: dream :attr:`round_steps` steps and learn from them in the algorithm's own way.

        Args:
            experience: says where dreams begin.

        Returns:
            The algorithm's own losses and diagnostics, and ``return``, the mean of the last dreamt episodes.

        Raises:
            DivergedError: if a weight is not finite.
            NotFiniteError: if the model dreams a number that is not; nothing is learned from it.
        """
        algorithm, simulator = self.algorithm, self.dream.simulator
        if simulator.starts is not experience.starts:
            simulator.starts = experience.starts
        number = algorithm.num_timesteps
        with drawing_apart(derived_seed(self.seed, "round", number), simulator.device):
            algorithm.action_space.seed(derived_seed(self.seed, "actions", number))
            algorithm.learn(self.round_steps, log_interval=None, reset_num_timesteps=False)
        for name, weight in algorithm.policy.named_parameters():
            if not bool(torch.isfinite(weight).all()):
                raise DivergedError(
                    f"{name} of {self.name}'s policy is not finite after {algorithm.num_timesteps} dreamt steps. Go on "
                    f"from the state before, with a lower learning_rate."
                )
        told = {name: value for name, value in algorithm.logger.name_to_value.items() if name.startswith("train/")}
        found = {name.partition("/")[2]: float(value) for name, value in told.items()}
        returns = [float(episode["r"]) for episode in algorithm.ep_info_buffer]
        return {**found, "return": float(np.mean(returns))} if returns else found

    def predict(self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False):
        """SB3's own ``predict``, so that ``evaluate_policy`` takes the agent; of a latent view the latents.

        Args:
            observation: arrays as the policy's observation space says.
            state: none; SB3's argument.
            episode_start: none; SB3's argument.
            deterministic: take the mode.
        """
        return self.algorithm.predict(observation, state, episode_start, deterministic)

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimisers, counts, replay buffer, and where the dreams are. Shares memory with the agent."""
        return state_of(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken.

        Args:
            state: of an agent of the same algorithm, view, model and options.

        Raises:
            ValueError: if it is another's.
        """
        load_state(self, state)


def algorithm_named(name: str) -> type[BaseAlgorithm]:
    """The class of an algorithm.

    Args:
        name: in any case, of SB3 or sb3-contrib.

    Raises:
        MissingExtraError: if sb3-contrib is needed and not installed.
        ValueError: if there is none of this name; the message lists them.
    """
    for known in OWN:
        if name.lower() == known.lower():
            return getattr(sb3, known)
    for known in CONTRIB:
        if name.lower() == known.lower():
            return getattr(require("sb3_contrib", extra="sb3"), known)
    raise ValueError(f"SB3 has the algorithms {', '.join((*OWN, *CONTRIB)).lower()}; got {name!r}. Pass a class.")


def needs_of(kind: type[BaseAlgorithm], view: str, *, rewarded: bool = False) -> Needs:
    """What an algorithm asks of its world model.

    Args:
        kind: its class.
        view: what it looks at.
        rewarded: whether the reward is given rather than the model's.
    """
    lineage = {base.__name__ for base in kind.__mro__}
    actions: Actions = "any"
    if lineage & {"DQN", "QRDQN"}:
        actions = "one choice"
    elif issubclass(kind, OffPolicyAlgorithm):
        actions = "numbers"
    wanted = "features" if view == "latent" else "decode"
    return Needs((wanted,) if rewarded else (wanted, "reward"), actions=actions)


def _check_kind(kind: Any) -> None:
    if not (isinstance(kind, type) and issubclass(kind, OnPolicyAlgorithm | OffPolicyAlgorithm)):
        raise TypeError(f"algorithm is a class of SB3's, such as PPO or SAC, or its name; got {kind!r:.80}.")
    if kind.__name__ in ("RecurrentPPO", "MaskablePPO"):
        raise TypeError(
            f"{kind.__name__} asks for a memory or masks beside the observation, which an agent's policy is not given: "
            f"use it on a DreamVecEnv directly, or choose PPO."
        )


def _has_own_rollouts(kind: type[BaseAlgorithm]) -> bool:
    return getattr(kind, "collect_rollouts", None) is OnPolicyAlgorithm.collect_rollouts


def _usual_view(model: WorldModel) -> Literal["decoded", "latent"]:
    images = any(is_image(leaf) for _, leaf in items_of(model.observation_spec))
    decodes, features = "decode" in model.capabilities, "features" in model.capabilities
    return "latent" if features and (images or not decodes) else "decoded"


class FlatExtractor(BaseFeaturesExtractor):
    """The entries of a ``Dict`` of observations side by side, for images too small for SB3's convolutions.

    Args:
        space: the ``Dict``.
    """

    def __init__(self, space: spaces.Dict) -> None:
        super().__init__(space, sum(get_flattened_obs_dim(entry) for entry in space.values()))
        self._names = list(space)

    def forward(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Features ``[B, F]`` of entries ``[B, ...]``."""
        return torch.cat([observations[name].flatten(1) for name in self._names], 1)


def _has_small_images(space: spaces.Space) -> bool:
    entries = space.values() if isinstance(space, spaces.Dict) else ()
    return any(is_image_space(entry) and min(sorted(entry.shape or ())[-2:]) < NATURE_SIDE for entry in entries)


def _usual_policy(space: spaces.Space) -> str:
    if isinstance(space, spaces.Dict):
        return "MultiInputPolicy"
    sides = sorted(space.shape or ())[-2:]
    return "CnnPolicy" if is_image_space(space) and min(sides) >= NATURE_SIDE else "MlpPolicy"


A = TypeVar("A", bound=BaseAlgorithm)


@cache
def _paced(kind: type[A]) -> type[A]:
    """The algorithm, annealing over :attr:`schedule_steps` rather than over one call of ``learn``."""

    def paced(self: Any, num_timesteps: int, total_timesteps: int) -> None:
        cast(Any, kind)._update_current_progress_remaining(
            self, num_timesteps, max(self.schedule_steps, num_timesteps)
        )  # fmt: skip

    own = {"_update_current_progress_remaining": paced, "schedule_steps": 100_000, "__module__": __name__}
    return cast("type[A]", type(kind.__name__, (kind,), own))
