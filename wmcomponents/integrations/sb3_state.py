"""Everything that decides how an SB3 agent goes on, in tensors and plain values."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from wmcomponents._extras import require

require("stable_baselines3", extra="sb3")

from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer  # noqa: E402

from wmcomponents.world_model import LatentPolicy  # noqa: E402

if TYPE_CHECKING:
    from wmcomponents.integrations.sb3_agent import SB3Agent

COUNTS = (
    "num_timesteps", "_n_updates", "_n_calls", "_episode_num", "exploration_rate", "_current_progress_remaining",
    "_total_timesteps", "_num_timesteps_at_start",
)  # fmt: skip
REPLAYED = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


@contextmanager
def drawing_apart(seed: int, device: torch.device) -> Iterator[None]:
    """Whatever is drawn within comes from this seed; the global generators of torch and NumPy go on as if nothing were.

    Args:
        seed: of what is drawn.
        device: where torch draws beside the CPU.
    """
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), arrays_drawn_apart(seed + 1):
        torch.manual_seed(seed)
        yield


@contextmanager
def arrays_drawn_apart(seed: int) -> Iterator[None]:
    """Whatever NumPy draws within comes from this seed; its global generator goes on as if nothing were.

    Args:
        seed: of what is drawn.
    """
    arrays = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(arrays)


def state_of(agent: "SB3Agent") -> dict[str, Any]:
    """The state of an agent.

    Args:
        agent: the agent.

    Raises:
        TypeError: if its replay buffer is of a kind that cannot be kept.
    """
    algorithm = agent.algorithm
    state: dict[str, Any] = {"algorithm": agent.name, "view": agent.view}
    names, variables = algorithm._get_torch_save_params()
    state["modules"] = {name: attrgetter(name)(algorithm).state_dict() for name in names}
    state["variables"] = {name: attrgetter(name)(algorithm).detach() for name in variables}
    state["counts"] = {name: getattr(algorithm, name) for name in COUNTS if hasattr(algorithm, name)}
    episodes = algorithm.ep_info_buffer or ()
    state["episodes"] = [[float(one["r"]), int(one["l"])] for one in episodes]
    state["replay"] = _replayed(getattr(algorithm, "replay_buffer", None))
    begun = algorithm._last_obs is not None
    state["place"] = _place(agent) if begun else None
    state["drawn"] = agent.dream_policy.drawn
    if isinstance(agent.real_policy, LatentPolicy):
        state["filter"] = agent.real_policy.generator_state()
    return state


def load_state(agent: "SB3Agent", state: Mapping[str, Any]) -> None:
    """Go on where :func:`state_of` was taken.

    Args:
        agent: of the same algorithm, view, model and options.
        state: the state.

    Raises:
        ValueError: if it is another's.
    """
    algorithm: Any = agent.algorithm
    own = {"algorithm": agent.name, "view": agent.view}
    if {name: state.get(name) for name in own} != own:
        raise ValueError(
            f"the state is of {state.get('algorithm')} in the {state.get('view')} view; this agent is {agent.name} in "
            f"the {agent.view} view. Make the agent with the arguments that the state was written with."
        )
    place, replay = state["place"], state["replay"]
    rows = None if place is None else len(place["begins"])
    if rows not in (None, agent.dream.num_envs):
        raise ValueError(f"the state is of {rows} dreams side by side; this agent has dreams={agent.dream.num_envs}.")
    algorithm.set_parameters(dict(state["modules"]), exact_match=True, device=algorithm.device)
    for name, value in state["variables"].items():
        attrgetter(name)(algorithm).data.copy_(value)
    for name, value in state["counts"].items():
        setattr(algorithm, name, value)
    if place is not None:
        _go_back(agent, place)
    if replay is not None:
        _refill(algorithm.replay_buffer, replay)
    if isinstance(agent.real_policy, LatentPolicy):
        agent.real_policy.set_generator_state(state["filter"])
    agent.dream_policy.drawn = int(state["drawn"])
    algorithm._setup_learn(0, None, reset_num_timesteps=algorithm.ep_info_buffer is None and place is None)
    for name, value in state["counts"].items():
        setattr(algorithm, name, value)
    episodes: Any = algorithm.ep_info_buffer
    episodes.clear()
    episodes.extend({"r": r, "l": l, "t": 0.0} for r, l in state["episodes"])  # noqa: E741


def _place(agent: "SB3Agent") -> dict[str, Any]:
    """Where the dreams are, what the algorithm last saw of them, and what their episodes have earned."""
    algorithm = agent.algorithm
    begins = torch.as_tensor(algorithm._last_episode_starts)
    monitor = agent.monitor
    counted = algorithm._counted if monitor is None else (monitor.episode_returns, monitor.episode_lengths)
    return {
        "dream": agent.dream.simulator.get_state().to_dict(),
        "seen": _tensors(algorithm._last_obs),
        "begins": begins,
        "counted": torch.as_tensor(np.stack(counted).astype(np.float64)),
    }


def _go_back(agent: "SB3Agent", place: Mapping[str, Any]) -> None:
    """Put the dreams where they were."""
    algorithm, simulator = agent.algorithm, agent.dream.simulator
    algorithm.env.reset()  # a dream goes back only where one was begun
    simulator.set_state(TensorDict(dict(place["dream"])))
    counted = place["counted"].cpu().numpy()
    if agent.monitor is not None:
        agent.monitor.episode_returns = counted[0].astype(np.float32)
        agent.monitor.episode_lengths = counted[1].astype(np.int32)
        algorithm._last_obs = _arrays(place["seen"])
        algorithm._last_episode_starts = _arrays(place["begins"])
    else:
        algorithm._counted = counted.copy()
        algorithm._last_obs, algorithm._last_episode_starts = place["seen"], place["begins"]


def _replayed(buffer: Any) -> dict[str, Any] | None:
    """The filled part of a replay buffer."""
    if buffer is None:
        return None
    if type(buffer) not in (ReplayBuffer, DictReplayBuffer):
        raise TypeError(
            f"a {type(buffer).__name__} cannot be kept in an agent's state: use SB3's ReplayBuffer or "
            f"DictReplayBuffer, or the algorithm itself on a DreamVecEnv."
        )
    kept = {name: getattr(buffer, name) for name in REPLAYED if hasattr(buffer, name)}
    filled = slice(None if buffer.full else buffer.pos)
    return {
        "pos": int(buffer.pos),
        "full": bool(buffer.full),
        **{name: _tensors(_each(value, filled)) for name, value in kept.items()},
    }


def _refill(buffer: Any, kept: Mapping[str, Any]) -> None:
    for name, value in kept.items():
        if name in ("pos", "full"):
            setattr(buffer, name, value)
            continue
        place = getattr(buffer, name)
        for into, entry in (
            ((place[key], value[key]) for key in value) if isinstance(place, dict) else ((place, value),)
        ):
            into[: len(entry)] = entry.numpy()


def _each(value: Any, filled: slice) -> Any:
    return {key: entry[filled] for key, entry in value.items()} if isinstance(value, dict) else value[filled]


def _tensors(value: Any) -> Any:
    return {key: _tensors(entry) for key, entry in value.items()} if isinstance(value, dict) else torch.as_tensor(value)


def _arrays(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _arrays(entry) for key, entry in value.items()}
    return value.cpu().numpy().copy() if isinstance(value, Tensor) else value
