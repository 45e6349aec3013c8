"""What an ensemble is made of."""

from dataclasses import dataclass
from typing import Any, Literal

from wmcomponents.pretrained import ModelConfig

Propagation = Literal["TS1", "TSinf", "apart"]
"""How members go on together in a dream: see :class:`~wmcomponents.models.Ensemble`."""


@dataclass(frozen=True)
class EnsembleConfig(ModelConfig):
    """Members of one family, all of one config.

    Attributes:
        family: name of the members' class.
        members: how many there are.
        propagation: how they go on together in a dream.
        member: config of each.
    """

    family: str
    members: int
    propagation: Propagation
    member: Any
