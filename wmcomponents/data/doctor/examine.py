"""All checks over recorded steps, and what they found."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tensordict import TensorDictBase
from torchrl.data import Composite

from wmcomponents.data.doctor import boundaries, values
from wmcomponents.data.doctor.finding import Finding
from wmcomponents.data.doctor.record import Record
from wmcomponents.data.doctor.shifts import action_gains, shifted_actions

Check = Callable[[Record], Iterator[Finding]]
CHECKS: dict[str, tuple[Check, ...]] = {
    "not finite": (values.finite,),
    "flags": (boundaries.flags,),
    "chain": (boundaries.chain,),
    "leaked reset": (boundaries.leaked,),
    "boundaries": (boundaries.jumps,),
    "shifted actions": (shifted_actions,),
    "constant": (values.constant,),
    "frozen": (values.frozen,),
    "range": (values.ranges,),
    "reward scale": (values.rewards,),
}
"""The faults that are looked for, and what finds each."""


@dataclass(frozen=True)
class Examined:
    """What was looked at, and what was found.

    Attributes:
        steps: how many steps.
        episodes: how many beginnings are marked.
        findings: in the order of :data:`CHECKS`.
        inverse_model: what the change of the observation tells of the action at the shifts -1, 0 and +1, beyond the
            observations one by one; empty where actions or observations do not vary, or are too few.
    """

    steps: int
    episodes: int
    findings: list[Finding]
    inverse_model: dict[int, float]

    def to_json(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "steps": self.steps,
            "episodes": self.episodes,
            "findings": [one.to_json() for one in self.findings],
            "inverse_model": {str(shift): round(gain, 4) for shift, gain in self.inverse_model.items()},
        }


def examine(streams: Sequence[TensorDictBase], spec: Composite | None = None) -> Examined:
    """Look for what is wrong with recorded steps; nothing is changed. Seconds of a CPU.

    Args:
        streams: steps in the order in which they were taken, ``[N]`` each, in TorchRL's layout.
        spec: of a step, for bounds and kinds; read off the values if not given.

    Raises:
        UnusableDataError: if there is nothing to examine.

    >>> from wmcomponents.data import RandomPolicy, make_env
    >>> env = make_env("CartPole-v1", seed=0)
    >>> steps = env.rollout(300, RandomPolicy(env.action_spec), break_when_any_done=False)
    >>> examine([steps]).findings
    []
    """
    record = Record.of(streams, spec)
    found = [one for checks in CHECKS.values() for check in checks for one in check(record)]
    return Examined(len(record.streams), int(record.flag("is_init").sum()), found, action_gains(record))
