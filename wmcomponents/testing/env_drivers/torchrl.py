"""A TorchRL ``EnvBase``, with a locked batch or without."""

import logging
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import torch
from tensordict import TensorDictBase, unravel_key
from torch import Tensor
from torchrl.data import Composite
from torchrl.envs.utils import check_env_specs

from wmcomponents.testing.env_drivers.player import DreamProbe, Played, Player, Rows
from wmcomponents.testing.report import Clause, Failure, Skip
from wmcomponents.testing.sampling import draw

FLAGS = ("done", "terminated", "truncated")


class TorchRLPlayer(Player):
    """Plays an ``EnvBase`` with its own ``step_and_maybe_reset``."""

    library = "torchrl EnvBase"

    def __init__(self, env: Any) -> None:
        super().__init__()
        self.env = env
        self.batch = tuple(env.batch_size)
        self.rows = max(1, int(torch.Size(self.batch).numel()))
        self._root: Any = None

    @property
    def root(self) -> TensorDictBase:
        """What the next step is taken from."""
        return self._root

    def seed(self, seed: int | None) -> None:
        """Seeds the environment at once."""
        if seed is not None:
            self.env.set_seed(seed)

    def reset(self) -> Rows:
        """Reset, and look at what it returns."""
        try:
            self._root = self.env.reset()
        except RuntimeError:
            # EnvBase refuses flags that are true at reset with an error that names neither clause nor remedy.
            self._begins_undone(self.env._reset(None))
            raise
        self._flags("reset", self._root)
        self._begins_undone(self._root)
        for key in self.env.reward_keys:
            if key in self._root.keys(True):
                self.note("reward/layout", "reset", "no reward at reset", f"{key!r}", "write the reward in steps only.")
        return self._seen("reset", self._root)

    def step(self, action: Any) -> Played:
        """Step every row, and look at what was written beside the input."""
        root = self._root.clone()
        for key, value in action.items():
            root.set(key, value)
        before = root.clone()
        stepped, following = self.env.step_and_maybe_reset(root)
        after = stepped["next"]
        self._values(before, stepped, after)
        self._flags("step", after)
        self._seen("step", after)
        done = self._flag(after, "done")
        ended, cut = self._flag(after, "terminated"), self._flag(after, "truncated")
        reward = after[self.env.reward_keys[0]]
        self._reward(reward)
        self._root = following
        seen = self._seen("step, after the reset of ended rows", following)
        self._begins_undone(following)
        return Played(seen, self._numbers(reward).astype(np.float64), ended | (done & ~cut), cut, done)

    def actions(self, count: int, seed: int) -> list[Any]:
        """Random actions inside the action specs, from a generator of the examiner's own."""
        generator = torch.Generator().manual_seed(seed)
        specs = self.env.full_action_spec
        return [
            {key: draw(specs[key], (), generator).to(self.env.device or "cpu") for key in self.env.action_keys}
            for _ in range(count)
        ]

    def altered(self, action: Any, other: Any, row: int) -> Any:
        """One row from the other action."""
        index = np.unravel_index(row % self.rows, self.batch) if self.batch else ...
        changed = {key: value.clone() for key, value in action.items()}
        for key, value in changed.items():
            value[index] = other[key][index]
        return changed

    def clauses(self) -> tuple[Clause[DreamProbe], ...]:
        """What ``EnvBase`` adds."""
        return (
            Clause(("flags/none-at-reset",), lambda probe: probe.found("flags/none-at-reset")),
            Clause(("flags/done-is-or",), lambda probe: probe.found("flags/done-is-or")),
            Clause(("step/no-mutation",), lambda probe: probe.found("step/no-mutation")),
            Clause(("step/no-alias",), lambda probe: probe.found("step/no-alias")),
            Clause(("torchrl/state-carried",), self._state_carried),
            Clause(("torchrl/partial-reset",), self._partial_reset),
            Clause(("torchrl/raw-reward",), self._raw_reward),
            Clause(("library/check-env-specs",), self._library),
        )

    def _flag_keys(self) -> list[Any]:
        """The three flags of every group of rows that ends together."""
        groups = {_parent(key) for key in self.env.done_keys}
        return [_child(group, flag) for group in sorted(groups) for flag in FLAGS]

    def _begins_undone(self, tensordict: TensorDictBase) -> None:
        raised = [key for key in self._flag_keys() if key in tensordict.keys(True) and bool(tensordict[key].any())]
        if raised and not self.env._allow_done_after_reset:
            remedy = "begin with all three flags false, in partial resets too."
            self.note("flags/none-at-reset", "reset", "no row begins done", f"true: {raised}", remedy)

    def _flags(self, where: str, tensordict: TensorDictBase) -> None:
        for group in sorted({_parent(key) for key in self.env.done_keys}):
            keys = [_child(group, flag) for flag in FLAGS]
            missing = [key for key in keys if key not in tensordict.keys(True)]
            if missing:
                expected = "done, terminated and truncated, always all three"
                self.note("flags/done-is-or", where, expected, f"no {missing}", "declare all three in done_spec.")
                continue
            done, terminated, truncated = (cast(Tensor, tensordict[key]) for key in keys)
            shape = (*self.batch, *group_shape(group, self.env), 1)
            for key, flag in zip(keys, (done, terminated, truncated), strict=True):
                if flag.dtype is not torch.bool or tuple(flag.shape) != shape:
                    got = f"{key!r} is {flag.dtype} {tuple(flag.shape)}"
                    self.note(
                        "flags/layout", where, f"bools of shape {shape}", got, "end each flag in a dim of size 1."
                    )
            if done.shape != terminated.shape or not torch.equal(done, terminated | truncated):
                self.note(
                    "flags/done-is-or",
                    where,
                    "done == terminated | truncated",
                    f"done {done.flatten().tolist()[:8]}, terminated {terminated.flatten().tolist()[:8]}, truncated "
                    f"{truncated.flatten().tolist()[:8]}",
                    "compute done from the other two, in steps and at reset.",
                )

    def _reward(self, reward: Tensor) -> None:
        spec = self.env.full_reward_spec[self.env.reward_keys[0]]
        fits = tuple(reward.shape) == tuple(spec.shape) and reward.shape[-1:] == (1,)
        if not fits or reward.dtype is not spec.dtype or not reward.dtype.is_floating_point:
            got = f"{reward.dtype} {tuple(reward.shape)}"
            self.note("reward/layout", "step", f"floats of shape {(*self.batch, 1)}", got, "end it in a dim of size 1.")
        if not bool(torch.isfinite(reward).all()):
            self.note("values/finite", "step: reward", "finite numbers", "NaN or infinite", "mend the model.")

    def _values(self, before: TensorDictBase, stepped: TensorDictBase, after: TensorDictBase) -> None:
        held: dict[int, Any] = {}
        for key, value in before.items(True, True):
            now = stepped.get(key)
            if unravel_key(key)[0] == "next" or not isinstance(value, Tensor):
                continue
            if now is None or now.shape != value.shape or not bool(((now == value) | (value != value)).all()):
                self.note(
                    "step/no-mutation",
                    f"step: {key!r}",
                    "the input's entries are bitwise unchanged after the step",
                    "removed" if now is None else "changed",
                    "return new tensors from _step; write nothing into its input.",
                )
            elif now.numel():
                held[now.untyped_storage().data_ptr()] = key
        for key, value in after.items(True, True):
            if isinstance(value, Tensor) and value.numel() and value.untyped_storage().data_ptr() in held:
                self.note(
                    "step/no-alias",
                    f"step: ('next', {key!r})",
                    "outputs in memory of their own",
                    f"it shares memory with the input {held[value.untyped_storage().data_ptr()]!r}",
                    "clone what is passed on unchanged.",
                )

    def _seen(self, where: str, tensordict: TensorDictBase) -> Rows:
        rows: Rows = {}
        for key, leaf in self.env.full_observation_spec.items(True, True):
            value = tensordict.get(key)
            if value is None:
                self.note("spaces/observation", where, f"the entry {key!r}", "missing", "write every declared entry.")
                continue
            self.hand(f"{where}: {key!r}", value)
            finite = not value.dtype.is_floating_point or bool(torch.isfinite(value).all())
            if not finite:
                self.note("values/finite", f"{where}: {key!r}", "finite numbers", "NaN or infinite", "mend the model.")
            elif (
                tuple(value.shape) != tuple(leaf.shape) or value.dtype is not leaf.dtype or not bool(leaf.is_in(value))
            ):
                self.note(
                    "spaces/observation",
                    f"{where}: {key!r}",
                    f"{leaf.dtype} {tuple(leaf.shape)} inside {type(leaf).__name__}",
                    f"{value.dtype} {tuple(value.shape)}, from {value.min().item()} to {value.max().item()}",
                    "return what observation_spec says, or widen it.",
                )
            rows[str(key)] = self._numbers(value)
        return rows

    def _flag(self, tensordict: TensorDictBase, name: str) -> np.ndarray:
        value = tensordict.get(name, None)
        if value is None:
            return np.zeros(self.rows, dtype=bool)
        return value.detach().cpu().reshape(self.rows, -1).any(1).numpy()

    def _numbers(self, value: Tensor) -> np.ndarray:
        array = value.detach().cpu().reshape(self.rows, *value.shape[len(self.batch) :]).numpy()
        return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array

    def _state_carried(self, probe: DreamProbe) -> Iterator[Failure]:
        observed = set(self.env.full_observation_spec.keys(True, True))
        actions = set(self.env.action_keys)
        lost = [key for key in self.env.full_state_spec.keys(True, True) if key not in observed | actions]
        if lost:
            yield Failure(
                "torchrl/state-carried",
                "state_spec",
                "every entry of state_spec is in observation_spec too",
                f"{lost} are in state_spec only",
                "declare them in observation_spec: step_mdp carries nothing else, and rollouts would use stale values.",
            )

    def _partial_reset(self, probe: DreamProbe) -> Iterator[Failure]:
        if len(self.batch) == 0 or self.rows < 2:
            raise Skip("the environment has one row")
        if not self.env.batch_locked:
            raise Skip("the environment has no locked batch")
        _ = probe.trace
        probe.play(probe.player.actions(3, probe.seed), probe.seed)
        mask = torch.zeros(*self.batch, 1, dtype=torch.bool, device=self.env.device)
        mask.view(-1)[0] = True
        asked = self.root.clone().set("_reset", mask)
        before = self._seen("step", self.root)
        answer = self.env.reset(asked)
        after = self._seen("partial reset", answer)
        changed = [key for key in before if not np.array_equal(before[key][1:], after[key][1:])]
        if changed or "_reset" in answer.keys():
            yield Failure(
                "torchrl/partial-reset",
                "reset of row 0 through '_reset'",
                "the other rows are left as they are, and '_reset' is gone from the result",
                f"changed in other rows: {changed}" if changed else "'_reset' is still there",
                "restart only the rows of the mask.",
            )

    def _raw_reward(self, probe: DreamProbe) -> Iterator[Failure]:
        # The public step reshapes a reward that lacks its last dimension, so that only _step shows the fault.
        _ = probe.trace
        self.seed(probe.seed)
        self.reset()
        action = self.actions(1, probe.seed)[0]
        answer = self.env._step(self.root.clone().update(action))
        key = self.env.reward_keys[0]
        reward = answer.get(key, None)
        shape = tuple(self.env.full_reward_spec[key].shape)
        if reward is not None and (tuple(reward.shape) != shape or shape[-1:] != (1,)):
            yield Failure(
                "torchrl/raw-reward",
                "_step",
                f"a reward of shape {(*shape[:-1], 1) if shape[-1:] == (1,) else (*self.batch, 1)}",
                f"shape {tuple(reward.shape)}",
                "unsqueeze(-1) it: step() reshapes it silently, which mixes rows as soon as shapes differ.",
            )

    def _library(self, probe: DreamProbe) -> Iterator[Failure]:
        logger = logging.getLogger("torchrl")
        level = logger.level
        logger.setLevel(logging.WARNING)  # the checker announces its success
        try:
            check_env_specs(self.env, seed=probe.seed, break_when_any_done="both")
        except Exception as error:  # noqa: BLE001  the checker raises assertions, key and runtime errors alike
            got = f"{type(error).__name__}: {error}"
            clause = "library/check-env-specs"
            yield Failure(clause, "check_env_specs", "the library's own checker passes", got, "follow what it says.")
        finally:
            logger.setLevel(level)


def group_shape(group: tuple, env: Any) -> tuple[int, ...]:
    """Dims that a nested group of flags (of several agents) adds to the batch."""
    spec = env.full_done_spec[group] if group else env.full_done_spec
    return tuple(cast(Composite, spec).shape[len(env.batch_size) :])


def _parent(key: Any) -> tuple:
    key = unravel_key(key)
    return () if isinstance(key, str) else tuple(key[:-1])


def _child(group: tuple, name: str) -> Any:
    return (*group, name) if group else name
