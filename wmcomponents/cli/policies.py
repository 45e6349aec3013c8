"""Policies named on the command line: random, the folder of an agent, or what Stable-Baselines3 saved."""

import json
import zipfile
from pathlib import Path
from typing import Any, Literal, cast

import torch
from tensordict import TensorDictBase
from torchrl.data import Composite, TensorSpec, Unbounded
from torchrl.envs import TransformedEnv
from torchrl.envs.utils import ExplorationType, set_exploration_type

from wmcomponents._extras import require
from wmcomponents.cli.errors import UsageError
from wmcomponents.world_model import WorldModel, keys_of

RANDOM = "random"

# An entry of its saved attributes that only this algorithm has; the first match counts.
_MARKS = {
    "PPO": {"clip_range", "n_epochs"},
    "SAC": {"target_entropy"},
    "TD3": {"target_policy_noise"},
    "DQN": {"exploration_fraction"},
    "A2C": {"gae_lambda"},
}


class BadAgentError(ValueError):
    """A file is no agent of Stable-Baselines3, or one that does not fit."""


def load_agent(path: Path) -> Any:
    """An SB3 agent from its file, of any of SB3's own algorithms. This runs pickled code: open only files you trust.

    A folder of ``wmc train --agent`` holds no such code, and is given back as it is: :func:`real_policy` opens it.

    Raises:
        BadAgentError: if the file is no such agent.
        MissingExtraError: if Stable-Baselines3 is not installed.
    """
    if path.is_dir():
        return path  # built once there is a model for it
    sb3: Any = require("stable_baselines3", extra="sb3")
    if not path.is_file():
        raise BadAgentError(f"there is no agent at {path}; save one with agent.save({str(path)!r}).")
    try:
        with zipfile.ZipFile(path) as archive:
            attributes = set(json.loads(archive.read("data")))
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise BadAgentError(f"{path} was not saved by Stable-Baselines3 ({error}).") from error
    name = next((name for name, marks in _MARKS.items() if marks <= attributes), None)
    if name is None:
        raise BadAgentError(f"{path} holds an agent that is none of {', '.join(_MARKS)}.")
    return getattr(sb3, name).load(path, device="cpu")


def agent_view(agent: Any, model: WorldModel) -> Literal["decoded", "latent"]:
    """What an agent looks at: the observation, or the model's latents.

    Raises:
        BadAgentError: if it fits neither.
    """
    from wmcomponents.integrations.spaces import space_from_spec

    given, shown = agent.observation_space, space_from_spec(model.observation_spec)
    # SB3 puts the channels of images first.
    if type(given) is type(shown) and sorted(given.shape or ()) == sorted(shown.shape or ()):
        return "decoded"
    features = None
    if "features" in model.capabilities:
        features = tuple(model.features(model.initial_state((1,))).shape[1:])
        if given.shape == features:
            return "latent"
    raise BadAgentError(
        f"the agent observes {given}; the environment shows {shown}, and the model's latents are {features}."
    )


def dream_policy(text: str, model: WorldModel, *, seed: int) -> tuple[Any, Literal["decoded", "latent"]]:
    """A policy for one row of a dream, and the view it needs.

    Raises:
        UsageError, BadAgentError: if the text names no usable policy.
    """
    if text == RANDOM:
        return _random(model.action_spec.expand(torch.Size([1, *model.action_spec.shape])), 0.0, seed), "decoded"
    if Path(text).is_dir():
        from wmcomponents.cli.agent_folder import load_agent_folder

        return _remembering(load_agent_folder(Path(text), model)), "decoded"
    agent = load_agent(_path(text, "the folder of wmc train --agent, "))
    view = agent_view(agent, model)
    return _sb3(agent, model.observation_spec if view == "decoded" else _latent_spec(agent), model.action_spec), view


def real_policy(agent: Any, env: TransformedEnv, model: WorldModel | None) -> tuple[TransformedEnv, Any]:
    """An agent's deterministic policy on a real environment, filtered by the model where it looks at latents.

    Args:
        agent: of :func:`load_agent`.
        env: the environment, as ``data.make_env`` builds it.
        model: needed for an agent that looks at latents.

    Returns:
        The environment, with room for the filter's state where that is needed, and the policy.

    Raises:
        BadAgentError: if the agent does not fit.
    """
    from wmcomponents.data import action_spec, observation_spec

    if isinstance(agent, Path):
        from wmcomponents.cli.agent_folder import load_agent_folder

        if model is None:
            raise UsageError(f"{agent} is a folder; name a file: {agent / 'agent.zip'}.")
        policy = load_agent_folder(agent, model).real_policy
        primed = hasattr(policy, "make_tensordict_primer")
        return (env.append_transform(policy.make_tensordict_primer()) if primed else env), policy
    if model is None or agent_view(agent, model) == "decoded":
        return env, _sb3(agent, observation_spec(env), action_spec(env))
    from wmcomponents.integrations.torchrl import LatentPolicy

    policy = LatentPolicy(model, _sb3(agent, _latent_spec(agent), action_spec(env)))
    return env.append_transform(policy.make_tensordict_primer()), policy


def collect_policy(text: str, env: TransformedEnv, *, repeat_probability: float, seed: int) -> Any:
    """A policy that collects on a real environment.

    Raises:
        UsageError, BadAgentError: if the text names no usable policy.
    """
    if text == RANDOM:
        return _random(env.action_spec, repeat_probability, seed)
    return real_policy(load_agent(_path(text)), env, None)[1]


def _path(text: str, or_this: str = "") -> Path:
    path = Path(text)
    if path.suffix != ".zip":
        raise UsageError(f"--policy is 'random', {or_this}or the .zip of a Stable-Baselines3 agent; got {text!r}.")
    return path


def _remembering(agent: Any) -> Any:
    """An agent that acts on what a dream shows, as it would in reality, one dream after the other."""
    from wmcomponents.dream.starts import model_device
    from wmcomponents.integrations.player import Memory, Player

    player, memory, device = Player(agent), cast("Memory | None", None), model_device(agent.model)

    def act(tensordict: TensorDictBase) -> TensorDictBase:
        nonlocal memory
        entries = {key: tensordict.get(key).to(device) for key in keys_of(agent.model.observation_spec)}
        with set_exploration_type(ExplorationType.DETERMINISTIC):
            action, memory = player.act(entries, memory, tensordict.get("is_init").to(device))
        return tensordict.set("action", action)

    return act


def _random(spec: TensorSpec, repeat_probability: float, seed: int) -> Any:
    from wmcomponents.data import RandomPolicy

    return RandomPolicy(spec, repeat_probability, torch.Generator().manual_seed(seed))


def _sb3(agent: Any, observed: Composite, acted: TensorSpec) -> Any:
    from wmcomponents.integrations.sb3 import SB3Policy

    return SB3Policy(agent, observed, acted, deterministic=True)


def _latent_spec(agent: Any) -> Composite:
    return Composite(latent=Unbounded(torch.Size(agent.observation_space.shape)))
