"""Any Gymnasium ``VectorEnv`` as a Stable-Baselines3 ``VecEnv``, and what all our ``VecEnv``s share."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from torch import Tensor

from wmcomponents._arguments import of_kind
from wmcomponents._extras import require

require("stable_baselines3", extra="sb3")

from gymnasium.vector import AutoresetMode, VectorEnv  # noqa: E402
from gymnasium.wrappers.vector import RecordEpisodeStatistics  # noqa: E402
from stable_baselines3.common.vec_env import VecEnv  # noqa: E402

from wmcomponents.integrations.gymnasium.rows import (  # noqa: E402
    Rows,
    keeps_autoreset_through_reset,
    layers,
)
from wmcomponents.integrations.spaces import row_of  # noqa: E402


class AttributeVecEnv(VecEnv):
    """The attribute machinery of a ``VecEnv`` whose rows are not separate Python objects: all rows are alike."""

    num_envs: int
    row_methods: tuple[str, ...] = ("action_masks",)
    """Methods that answer for all rows at once, with one entry for each: :meth:`env_method` gives each row its own."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The attribute, once for each row asked for."""
        return [getattr(self._owner(attr_name), attr_name)] * len(self._rows(indices))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of all rows; setting it for some only is impossible, since the rows share one model."""
        if len(self._rows(indices)) != self.num_envs:
            raise ValueError(f"the rows share one model: set {attr_name!r} for all {self.num_envs} rows or for none.")
        setattr(self._owner(attr_name), attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Call a method once, and give its result for each row asked for.

        A method named in :attr:`row_methods` answers for all rows at once: each row asked for gets its own entry.

        Raises:
            ValueError: if such a method does not give one entry for each row.
        """
        rows = self._rows(indices)
        result = getattr(self._owner(method_name), method_name)(*args, **kwargs)
        if method_name not in self.row_methods:
            return [result] * len(rows)
        entries = result.detach().cpu().numpy() if isinstance(result, Tensor) else np.asarray(result)
        if entries.ndim == 0 or len(entries) != self.num_envs:
            raise ValueError(
                f"{method_name}() answers for all {self.num_envs} rows at once, one entry for each; got shape "
                f"{entries.shape}."
            )
        return [entries[row] for row in rows]

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """No row is wrapped."""
        return [False] * len(self._rows(indices))

    def _owner(self, name: str) -> Any:
        """The object that has an attribute of all rows."""
        return self

    def _rows(self, indices: Any) -> Sequence[int]:
        if indices is None:
            return range(self.num_envs)
        rows = [int(indices)] if isinstance(indices, (int, np.integer)) else [int(row) for row in indices]
        return [range(self.num_envs)[row] for row in rows]


class GymnasiumVecEnv(AttributeVecEnv):
    """Any ``gymnasium.vector.VectorEnv`` as an SB3 ``VecEnv``, whatever its autoreset mode.

    SB3 wants the first observation of a new episode in the step that ends the old one. ``SAME_STEP`` gives it. With
    ``DISABLED`` and ``NEXT_STEP`` the finished rows are reset at once by ``reset(options={"reset_mask": ...})``, which
    Gymnasium's own vector environments and :class:`DreamVectorEnv` honour in both modes (``AsyncVectorEnv`` in
    ``NEXT_STEP`` only with ``shared_memory=True``).

    Attributes and methods are those of the separate environments of a ``SyncVectorEnv`` or ``AsyncVectorEnv``, row by
    row; else of the vector environment, its wrappers first.

    Args:
        env: the vector environment.

    Raises:
        ValueError: for a ``NEXT_STEP`` environment whose workers would reset finished rows twice; at the end of an
            episode, if a ``NEXT_STEP`` environment has reset rows that were not asked for.
    """

    def __init__(self, env: VectorEnv) -> None:
        meaning = "a vector environment (gymnasium.make_vec); of a single one make DummyVecEnv([lambda: env])"
        of_kind("env", env, VectorEnv, meaning)
        self.env = env
        self._mode = AutoresetMode(env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP))
        if self._mode is AutoresetMode.NEXT_STEP and keeps_autoreset_through_reset(env):
            raise ValueError(
                "an AsyncVectorEnv without shared memory resets a finished row again at the next step, whose action is "
                "lost. Build it with shared_memory=True, or with autoreset_mode=AutoresetMode.SAME_STEP."
            )
        self._apart = Rows.of(env)
        self._actions: Any = None
        self.num_envs, self.render_mode, self.spec = env.num_envs, env.render_mode, env.spec
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self.metadata = env.metadata

    def has_attr(self, attr_name: str) -> bool:
        """Whether every row has an attribute; it is not fetched."""
        return self._is_apart(attr_name) or any(hasattr(layer, attr_name) for layer in (*layers(self.env), self))

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The attribute of each row asked for.

        Raises:
            AttributeError: if neither the rows nor the vector environment have it.
        """
        if self._apart is not None and self._is_apart(attr_name):
            return self._apart.call(self._rows(indices), "get_wrapper_attr", attr_name)
        return super().get_attr(attr_name, indices)

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of each row asked for: of the wrapper that has it, else of the environment itself.

        Raises:
            ValueError: if the rows are no environments of their own and not all are asked for.
        """
        shared = any(hasattr(layer, attr_name) for layer in layers(self.env))
        if self._apart is not None and (self._is_apart(attr_name) or not shared):
            self._apart.call(self._rows(indices), "set_wrapper_attr", attr_name, value)
        else:
            super().set_attr(attr_name, value, indices)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Call a method of each row asked for; of a vector environment without separate rows once, for all.

        Raises:
            AttributeError: if neither the rows nor the vector environment have it.
        """
        if self._apart is not None and self._is_apart(method_name):
            return self._apart.call(self._rows(indices), method_name, *args, **kwargs)
        return super().env_method(method_name, *args, indices=indices, **kwargs)

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """Whether each row, or the vector environment, is wrapped by such a wrapper."""
        rows = self._rows(indices)
        if any(isinstance(layer, wrapper_class) for layer in layers(self.env)):
            return [True] * len(rows)
        return [False] * len(rows) if self._apart is None else self._apart.wrapped(rows, wrapper_class)

    def set_options(self, options: Any = None) -> None:
        """Take the options of the next reset: one dict for all rows, or one for each.

        Raises:
            ValueError: if a list has not one dict for each row.
        """
        if not isinstance(options, (dict, type(None))) and len(options) != self.num_envs:
            raise ValueError(f"options are one dict, or one for each of the {self.num_envs} rows; got {len(options)}.")
        super().set_options(options)

    def reset(self) -> Any:
        """Reset every row; seeds and options given before are used here, once.

        Raises:
            ValueError: if rows were given different options and the environment cannot reset them apart.
        """
        # SB3 counts up from the first seed, as Gymnasium does with a single one.
        seed = None if self._seeds[0] is None else int(self._seeds[0])
        options = list(self._options)
        self._reset_seeds()
        self._reset_options()
        observation, info = self.env.reset(seed=seed, options=dict(options[0]) or None)
        self.reset_infos = [_row_info(info, i) for i in range(self.num_envs)]
        observation = _copied(observation)
        for given, rows in _groups(options)[1:]:
            observation = self._reset_rows(rows, observation, seed=seed, options=given, check=True)
        return observation

    def _is_apart(self, name: str) -> bool:
        """Whether the separate rows have an attribute. Asked first: a worker does not survive a name it lacks."""
        return self._apart is not None and self._apart.has(name)

    def _owner(self, name: str) -> Any:
        for layer in (*layers(self.env), self):
            if hasattr(layer, name):
                return layer
        if self._apart is None:
            return self.env.unwrapped
        raise AttributeError(f"neither the rows of {self.env} nor it itself have the attribute {name!r}.")

    def step_async(self, actions: np.ndarray) -> None:
        """Take the actions of the next step."""
        self._actions = actions

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Step every row, restarting those that finish."""
        observation, rewards, ends, cuts, info = self.env.step(self._actions)
        ends = np.array(ends, dtype=bool)
        dones = ends | np.asarray(cuts, dtype=bool)
        observation = _copied(observation)
        infos = [_row_info(info, i) for i in range(self.num_envs)]
        if dones.any():
            same_step = self._mode is AutoresetMode.SAME_STEP
            final = info["final_obs"] if same_step else observation
            for i in np.flatnonzero(dones):
                if same_step:
                    # The infos tell of the episode that begins, and under `final_info` of the one that ended.
                    self.reset_infos[i] = infos[i]
                    infos[i] = {**infos[i], **_row_info(info.get("final_info", {}), int(i))}
                add_end(infos[i], _last_of(final, int(i), self.observation_space), truncated=not ends[i])
            if not same_step:
                check = self._mode is AutoresetMode.NEXT_STEP
                observation = self._reset_rows(dones, observation, check=check)
        return observation, np.array(rewards, dtype=np.float32), dones, infos

    def _reset_rows(
        self,
        rows: np.ndarray,
        observation: Any,
        *,
        check: bool,
        seed: int | None = None,
        options: dict[str, Any] | None = None,
    ) -> Any:
        """The observations after these rows were reset, and (``check``) no other."""
        counters = [_Counts(layer) for layer in layers(self.env) if isinstance(layer, RecordEpisodeStatistics)]
        fresh, info = self.env.reset(seed=seed, options={**(options or {}), "reset_mask": rows.copy()})
        fresh = _copied(fresh)
        for counter in counters:
            counter.restore(~rows)
        if check and not _same_rows(fresh, observation, ~rows):
            raise ValueError(
                "the vector environment ignores reset_mask: it reset rows whose episodes go on. Build it with "
                "autoreset_mode=AutoresetMode.SAME_STEP (gymnasium.make_vec with vectorization_mode='sync' and "
                "vector_kwargs={'autoreset_mode': ...}), and give all rows the same options."
            )
        for i in np.flatnonzero(rows):
            self.reset_infos[i] = _row_info(info, int(i))
        return fresh

    def close(self) -> None:
        """Close the vector environment."""
        self.env.close()

    def get_images(self) -> list[np.ndarray | None]:
        """The rows' frames; nothing where they are not rendered as images."""
        frames = self.env.render() if self.render_mode == "rgb_array" else None
        return [None] * self.num_envs if frames is None else list(cast(Any, frames))


class _Counts:
    """What Gymnasium's statistics have counted. A reset of some rows makes them forget all, whatever its mask says."""

    def __init__(self, layer: RecordEpisodeStatistics) -> None:
        self._layer = layer
        names = ("episode_start_times", "episode_returns", "episode_lengths", "prev_dones")
        self._before = {name: getattr(layer, name).copy() for name in names}

    def restore(self, rows: np.ndarray) -> None:
        for name, value in self._before.items():
            getattr(self._layer, name)[rows] = value[rows]


def add_end(info: dict[str, Any], final: Any, *, truncated: bool) -> None:
    """What SB3 reads of a finished row: its last observation, and whether the clock alone ended it."""
    info["terminal_observation"] = final
    info["TimeLimit.truncated"] = truncated


def _last_of(final: Any, index: int, space: Any) -> Any:
    """A row's last observation: out of Gymnasium's array of objects, each an observation, or out of a batch."""
    if isinstance(final, np.ndarray) and final.dtype == object:
        return final[index]
    return row_of(final, index, space)


def _row_info(info: dict[str, Any], index: int) -> dict[str, Any]:
    """One row's entries of a Gymnasium vector info, nested as it is.

    ``_key`` is the mask of ``key``: the rows that it tells of; without a mask it tells of all. What is no array of rows
    (a number, a text) is said of every row.
    """
    row = {}
    for key, value in info.items():
        mask = info.get(f"_{key}")
        if key in ("final_obs", "final_info") or (key.startswith("_") and key[1:] in info):
            continue
        if mask is not None and not mask[index]:
            continue
        if isinstance(value, dict):
            row[key] = _row_info(value, index)
        else:
            row[key] = value[index] if isinstance(value, (np.ndarray, Tensor, list, tuple)) else value
    return row


def _groups(options: Sequence[dict[str, Any]]) -> list[tuple[dict[str, Any], np.ndarray]]:
    """Different options, each with the mask of its rows, in order of their first row."""
    found: list[tuple[dict[str, Any], np.ndarray]] = []
    for i, given in enumerate(options):
        for known, rows in found:
            if _equal(known, given):
                rows[i] = True
                break
        else:
            found.append((given, np.arange(len(options)) == i))
    return found


def _equal(options: dict[str, Any], others: dict[str, Any]) -> bool:
    try:
        return bool(options == others)
    except ValueError:  # arrays within: taken for different, which costs a reset
        return options is others


def _same_rows(new: Any, old: Any, rows: np.ndarray) -> bool:
    if isinstance(new, dict):
        return all(_same_rows(new[key], old[key], rows) for key in new)
    return bool(np.array_equal(new[rows], old[rows], equal_nan=new.dtype.kind == "f"))


def _copied(observation: Any) -> Any:
    if isinstance(observation, dict):
        return {key: _copied(value) for key, value in observation.items()}
    return np.array(observation)
