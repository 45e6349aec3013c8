"""What a driver asks of a world model, and what a model lacks of it, in words."""

from dataclasses import dataclass
from typing import Any, Literal

from torchrl.data import Bounded, Categorical, MultiCategorical, MultiOneHot, OneHot

from wmcomponents.world_model.protocol import CapabilityError, WorldModel
from wmcomponents.world_model.spec_checks import items_of

Actions = Literal["any", "one choice", "choices", "numbers"]
Observations = Literal["any", "one image", "images", "vectors"]

REMEDIES = {
    "features": "choose a model that offers features, or an agent that reads what the model decodes.",
    "decode": "choose a model with a decoder, or an agent that reads features.",
    "reward": "pass reward=, a function of (state, action, next state), or choose a model that predicts rewards.",
    "value": "choose a model that predicts values (TD-MPC2, MuZero), or hand in a value function.",
}


@dataclass(frozen=True)
class Needs:
    """What an agent, or any other driver, asks of the world model that it is to run in.

    Attributes:
        capabilities: of the model, as in ``CAPABILITIES``.
        actions: the kind of action it can take: ``"any"``, ``"one choice"`` (one of n), ``"choices"`` (one or more),
            or ``"numbers"`` (vectors between bounds).
        observations: the kind it can read: ``"any"``, ``"images"`` (all of them), ``"one image"``, or ``"vectors"``.

    Example:
        >>> Needs(("features", "reward"), actions="numbers").capabilities
        ('features', 'reward')
    """

    capabilities: tuple[str, ...] = ()
    actions: Actions = "any"
    observations: Observations = "any"

    def lacking(self, model: WorldModel) -> list[str]:
        """What a model lacks, each with its remedy; empty where it has everything.

        Args:
            model: the world model.
        """
        words = [
            f"{type(model).__name__} offers no {name}: {REMEDIES.get(name, 'choose a model that does.')}"
            for name in self.capabilities
            if name not in model.capabilities
        ]
        spec = model.action_spec
        if self.actions != "any" and not _acts(self.actions, spec):
            words.append(
                f"its actions are {_kind_of_action(spec)}, not {self.actions}: choose an agent for such actions "
                f"(`wmc agents` lists them), or wrap the environment."
            )
        if self.observations != "any":
            shown = dict(items_of(model.observation_spec))
            images = [key for key, leaf in shown.items() if is_image(leaf)]
            fits = {
                "images": len(images) == len(shown),
                "one image": len(images) == len(shown) == 1,
                "vectors": not images,
            }
            if not fits[self.observations]:
                found = ", ".join(f"{key} {list(leaf.shape)}" for key, leaf in shown.items())
                words.append(
                    f"its observations are {found}, not {self.observations}: choose an agent that reads features, or "
                    f"build the environment with {'from_pixels=True' if not images else 'its own observations'}."
                )
        return words

    def check(self, model: WorldModel, driver: str) -> None:
        """Refuse a model that lacks something.

        Args:
            model: the world model.
            driver: who asks, for the message.

        Raises:
            CapabilityError: naming the driver, all that is missing and the remedies.
        """
        words = self.lacking(model)
        if words:
            raise CapabilityError(
                f"{driver} cannot run in this model. " + " ".join(f"{one[0].upper()}{one[1:]}" for one in words)
            )


def is_image(leaf: Any) -> bool:
    """Whether a leaf of an observation spec is a picture ``[H, W, C]`` (bytes, or a board of planes)."""
    return len(leaf.shape) == 3


def _acts(kind: Actions, spec: Any) -> bool:
    one = isinstance(spec, (OneHot, Categorical)) and not isinstance(spec, (MultiOneHot, MultiCategorical))
    one = one and (not isinstance(spec, Categorical) or spec.shape.numel() == 1)
    if kind == "one choice":
        return one
    if kind == "choices":
        return isinstance(spec, (OneHot, MultiOneHot, Categorical, MultiCategorical))
    return isinstance(spec, Bounded) and spec.dtype.is_floating_point


def _kind_of_action(spec: Any) -> str:
    return f"{type(spec).__name__}{list(spec.shape)}"
