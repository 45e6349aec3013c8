"""The options of a dream, which everything that dreams takes by name: described here, read and checked here."""

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypedDict, get_args, get_type_hints

from torch import Tensor

from wmcomponents._arguments import whole
from wmcomponents.dream.noise import NoiseChoice, check_choice
from wmcomponents.dream.starts import Starts
from wmcomponents.dream.uncertainty import UNCERTAINTY, Uncertainty
from wmcomponents.world_model import State, WorldModel

View = Literal["decoded", "latent", "both", "goal"]
Termination = Literal["sample", "threshold", "off"]
RewardFunction = Callable[[State, Tensor, State], Tensor]
"""r_{t+1} = f(s_t, a_t, s_{t+1}), in env units, ``[*B, 1]``."""


class StepOptions(TypedDict, total=False):
    """How a dream goes on, once it has begun.

    Attributes:
        horizon: steps after which a row is truncated; ``None``, the default, never truncates.
        view: what is observed: ``"decoded"``, the default (as the real environment shows it), ``"latent"``
            (``features``, under the key ``latent``), ``"both"`` (as a ``Dict``), or ``"goal"`` (of a model with goals:
            ``observation``, ``achieved_goal`` and ``desired_goal``, as Gymnasium's goal environments show).
        termination: ``"sample"``, the default, draws termination with probability 1 - continue, ``"threshold"`` ends
            where continue is below one half, ``"off"`` never terminates.
        reward: replaces the model's reward, and is needed where the model has none: a function of (s_t, a_t, s_{t+1})
            that returns r_{t+1} in the environment's units, ``[N, 1]``.
        penalty: subtracted from the reward, and of the same signature; for example a disagreement of an ensemble.
        noise: noise of the steps. ``"sample"``, the default, draws it from the dream's generator; ``"mode"`` takes
            the most likely z, and ends a row where the probability to go on is below one half; a ``StepNoise`` of T
            steps of N rows (:func:`draw_noise`) is played step by step, from its beginning after each seed.
        uncertainty: what is measured of what the model does not know, and what follows from it: a penalty, a bonus, an
            early end (:class:`Uncertainty`). It comes after ``penalty``. Nothing is measured by default.
    """

    horizon: int | None
    view: View
    termination: Termination
    reward: RewardFunction | None
    penalty: RewardFunction | None
    noise: NoiseChoice
    uncertainty: Uncertainty | None


class DreamOptions(StepOptions, total=False):
    """What every environment of a dream takes by name: where it begins, and how it goes on (:class:`StepOptions`).

    Attributes:
        starts: where dreams begin; by default the start states saved with the model, else its own prior.
    """

    starts: Starts | None


@dataclass(frozen=True)
class StepChoices:
    """Options that were read: each is there, and possible with the model.

    Attributes:
        horizon, view, termination, reward, penalty, noise, uncertainty: those of :class:`StepOptions`.
    """

    horizon: int | None = None
    view: View = "decoded"
    termination: Termination = "sample"
    reward: RewardFunction | None = None
    penalty: RewardFunction | None = None
    noise: NoiseChoice = "sample"
    uncertainty: Uncertainty | None = None

    @classmethod
    def read(cls, model: WorldModel, options: Mapping[str, Any], owner: Callable[..., Any]) -> "StepChoices":
        """Options as they were given, looked at.

        Args:
            model: the world model that is to be dreamt in.
            options: those of :class:`StepOptions` that differ from their defaults.
            owner: what was given them, for the errors.

        Raises:
            CapabilityError: if the model lacks what the view, the termination or the reward needs.
            TypeError: if an option is unknown or of another kind.
            ValueError: if one is out of range, or the view would show two entries under one name.
        """
        refuse_unknown(options, owner)
        choices = cls(**options)
        choices._check_kinds()
        if choices.horizon is not None:
            horizon = whole("horizon", choices.horizon, 1, "a number of steps, at least 1, or None for no limit")
            choices = replace(choices, horizon=horizon)
        choices._check_view(model)
        if choices.termination != "off":
            model.require("continue", driver="learned termination", remedy="pass termination='off'.")
        if choices.uncertainty is not None:
            choices._check_uncertainty(choices.uncertainty, model)
        if choices.reward is None and (choices.uncertainty is None or choices.uncertainty.needs_reward):
            model.require("reward", driver="a dream", remedy="pass reward=, a function of (state, action, next state).")
        check_choice(model, choices.noise)
        return choices

    def _check_kinds(self) -> None:
        for name, function in (("reward", self.reward), ("penalty", self.penalty)):
            if function is not None and not callable(function):
                raise TypeError(f"{name}= is a function of (state, action, next state); got {function!r:.80}.")
        for name, kind in (("view", View), ("termination", Termination)):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} is one of {get_args(kind)}; got {getattr(self, name)!r}.")

    def _check_uncertainty(self, uncertainty: Any, model: WorldModel) -> None:
        if not isinstance(uncertainty, Uncertainty):
            raise TypeError(
                f"uncertainty= is an Uncertainty, such as Uncertainty(reward=Penalty(1.0)); got {uncertainty!r:.80}."
            )
        uncertainty.check(model)
        uncertainty.try_out(model)
        if UNCERTAINTY in {*model.observation_spec.keys(), *model.state_spec.keys()}:
            raise ValueError(
                f"the uncertainty is told as {UNCERTAINTY!r}, and the model has an entry of that name: rename it."
            )

    def _check_view(self, model: WorldModel) -> None:
        driver = f"the {self.view} view"
        if self.view == "goal":
            remedy = "wrap it: GoalWorldModel(model)."
            model.require("goal", driver=driver, remedy=remedy)
            return
        if self.view != "latent":
            model.require("decode", driver=driver, remedy="use view='latent', or give it a decoder.")
        if self.view != "decoded":
            model.require("features", driver=driver, remedy="use view='decoded', or write features().")
        if self.view == "both" and "latent" in model.observation_spec.keys():
            raise ValueError(
                "view='both' shows the features as 'latent', and the environment has an observation of that name: "
                "use view='latent' or view='decoded', or rename the observation."
            )


def refuse_unknown(options: Mapping[str, Any], owner: Callable[..., Any]) -> None:
    """Refuse options that there are not, with the one that may have been meant.

    Args:
        options: as they were given, by name.
        owner: the class or function they were given to; its own arguments are known too.

    Raises:
        TypeError: naming the first that is unknown, and all that are known.
    """
    unknown = sorted(options.keys() - DreamOptions.__optional_keys__)
    if unknown:
        raise TypeError(f"{owner.__name__} has no option {unknown[0]!r}; {_known_beside(unknown[0], owner)}")


def _known_beside(unknown: str, owner: Callable[..., Any]) -> str:
    """What there is, in words, and what may have been meant."""
    # Of a class the constructor itself: a metaclass, such as TorchRL's, may hide it.
    arguments = inspect.signature(owner.__init__ if isinstance(owner, type) else owner).parameters.values()
    names = [one.name for one in arguments if one.kind is not one.VAR_KEYWORD and one.name != "self"]
    names += [name for name in get_type_hints(DreamOptions) if name not in names]
    close = difflib.get_close_matches(unknown, names, n=1)
    return f"it has {', '.join(names)}." + (f" Did you mean {close[0]!r}?" if close else "")
