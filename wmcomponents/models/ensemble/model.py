"""An ensemble of world models of any family as one world model."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torchrl.data import Bounded, Composite, TensorSpec

from wmcomponents._arguments import whole
from wmcomponents.codecs import ObservationGroups
from wmcomponents.models.ensemble.config import EnsembleConfig, Propagation
from wmcomponents.models.ensemble.objective import EnsembleLoss
from wmcomponents.pretrained import PretrainedModel
from wmcomponents.pretrained.config import decoded
from wmcomponents.world_model import (
    CapabilityError,
    MemberPredictions,
    Noise,
    Observation,
    Prediction,
    Quantity,
    State,
    WorldModel,
    items_of,
)

SHOWN = "member"
"""State key of the member that a row shows; -1 before one is drawn."""

CHOICE = "choice_of_member"
"""Noise key of the draw of that member."""


class Ensemble(PretrainedModel):
    """Several world models of one kind as one, which knows how far its members disagree (:meth:`predict_members`).

    Every member has weights of its own and is trained on data in an order of its own (:class:`EnsembleLoss`). Its state
    holds the state of every member. In a dream each row shows what one drawn member predicts; ``propagation`` says how
    the others go on:

    * ``"TS1"`` (MBPO): the member is drawn anew at each step, and all observe what it predicted.
    * ``"TSinf"``: the member is drawn when the dream begins and stays; all observe what it predicts.
    * ``"apart"``: the member is drawn when the dream begins, and every member dreams on by itself. For models that
      decode nothing; as it were M dreams under the same actions, of which the distance grows with the steps.

    Members are drawn by the dream's noise; without noise (the mode) a row shows the first. All members take one and the
    same noise, so that equal members dream one dream. A step costs M steps of a member, and where all observe the
    prediction, M decodings and filter steps besides.

    Features are those of all members side by side, the value is their mean, and a decoded observation is the shown
    member's.

    Args:
        models: the members, of one class, with the same specs.
        propagation: see above; ``"TS1"`` where the members decode observations, else ``"apart"``, if not given.

    Raises:
        CapabilityError: if members that decode nothing shall observe what one predicted.
        TypeError: if the members are no world models, or of several classes.
        ValueError: if there are fewer than two, one comes twice, or their specs or configs differ.

    Reference: Chua et al., Deep Reinforcement Learning in a Handful of Trials (PETS, 2018), section 5 (TS1, TSinf);
    Janner et al., When to Trust Your Model (MBPO, 2019).

    Example:
        >>> from torchrl.data import Composite, OneHot, Unbounded
        >>> from wmcomponents.models import DreamerV3
        >>> specs = Composite(observation=Unbounded(4)), OneHot(2)
        >>> ensemble = Ensemble.of(lambda: DreamerV3("tiny", *specs), members=3)
        >>> state, action = ensemble.initial_state((5,)), ensemble.null_action((5,))
        >>> ensemble.predict_members(state, action).mean.shape
        torch.Size([5, 3, 4])
    """

    config_class = EnsembleConfig
    config: EnsembleConfig | None

    def __init__(self, models: Sequence[WorldModel], propagation: Propagation | None = None) -> None:
        models = list(models)
        _check_members(models)
        first = models[0]
        self._sizes = {key: leaf.ndim for key, leaf in items_of(first.state_spec)}
        count = len(models)
        states = {
            key: leaf.expand(torch.Size([count, *leaf.shape])).clone() for key, leaf in items_of(first.state_spec)
        }
        joined = {f"members_{key}": leaf for key, leaf in states.items()}
        shown = Bounded(-1, count - 1, torch.Size([1]), dtype=torch.int64)
        choice = {CHOICE: Bounded(0.0, 1.0, torch.Size([1]))}
        noise = {verb: Composite({**dict(first.noise_spec[verb].items()), **choice}) for verb in ("observe", "imagine")}
        super().__init__(
            observation_spec=first.observation_spec,
            action_spec=first.action_spec,
            state_spec=Composite({**joined, SHOWN: shown}),
            noise_spec=Composite(noise),
        )
        self.members = nn.ModuleList(models)
        self.propagation: Propagation = propagation or ("TS1" if "decode" in first.capabilities else "apart")
        if self.propagation not in ("TS1", "TSinf", "apart"):
            raise ValueError(f"propagation is 'TS1', 'TSinf' or 'apart'; got {propagation!r}.")
        if self.propagation != "apart":
            first.require("decode", driver=f"propagation={propagation!r}", remedy="pass propagation='apart'.")
        self._groups = ObservationGroups.from_spec(first.observation_spec) if "decode" in first.capabilities else None
        self.config = None
        own = getattr(first, "config", None)
        if isinstance(first, PretrainedModel) and own is not None:
            self.config = EnsembleConfig(type(first).__name__, count, self.propagation, own)

    @classmethod
    def of(
        cls,
        factory: Callable[[], WorldModel],
        members: int = 5,
        *,
        seed: int | None = None,
        propagation: Propagation | None = None,
    ) -> "Ensemble":
        """An ensemble whose members begin with weights of their own; no global generator is moved by a seed.

        Args:
            factory: makes a model with fresh weights, drawn from torch's global generator.
            members: how many; at least 2.
            seed: of the weights; what comes of the global generator if not given.
            propagation: as :class:`Ensemble` says.

        Raises:
            ValueError: if the factory's models all have the same weights: nothing in them could ever disagree.
        """
        count = whole("members", members, 2, "a number of members, at least 2")
        if seed is None:
            models = [factory() for _ in range(count)]
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(whole("seed", seed, 0, "a number from 0 on, or None"))
                models = [factory() for _ in range(count)]
        pairs = zip(models[0].parameters(), models[1].parameters(), strict=True)
        if all(torch.equal(one, other) for one, other in pairs):
            raise ValueError(
                "the factory gives models with one and the same weights, so that the members could never disagree: "
                "draw them from torch's global generator, without a seed of their own."
            )
        return cls(models, propagation)

    @classmethod
    def from_config(
        cls, config: EnsembleConfig, observation_spec: Composite, action_spec: TensorSpec, **parts: nn.Module
    ) -> "Ensemble":
        """Members with fresh weights."""
        kind, specs = _family(config.family), (observation_spec, action_spec)
        models = [kind.from_config(config.member, *specs, **parts) for _ in range(config.members)]
        return cls(models, config.propagation)

    @classmethod
    def _decoded_config(cls, content: Any, missing: list[str]) -> EnsembleConfig:
        config = decoded(content, EnsembleConfig, "config", missing)
        member = decoded(config.member, _family(config.family).config_class, "config.member", missing)
        return EnsembleConfig(config.family, config.members, config.propagation, member)

    @property
    def capabilities(self) -> frozenset[str]:
        """What every member can do, and to tell what each predicts."""
        every = frozenset.intersection(*(member.capabilities for member in self._models))
        return (every - {"inplace"}) | {"members"}

    @property
    def _models(self) -> list[WorldModel]:
        return cast("list[WorldModel]", list(self.members))

    def initial_state(self, batch_size: Sequence[int] = (), device: torch.device | str | None = None) -> State:
        """Every member's own, and no member drawn."""
        states = [member.initial_state(batch_size, device) for member in self._models]
        return self._joined(states, torch.full((*batch_size, 1), -1, dtype=torch.int64, device=device))

    def null_action(self, batch_size: Sequence[int] = (), device: torch.device | str | None = None) -> Tensor:
        """The first member's."""
        return self._models[0].null_action(batch_size, device)

    def observe(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """Every member observes; a member is drawn where an episode begins."""
        z, choice = _parted(noise)
        asked = zip(self._models, self._split(state), strict=True)
        states = [member.observe(own, action, observation, is_init, z) for member, own in asked]
        return self._joined(states, self._drawn(state[SHOWN], choice, is_init))

    def observe_sequence(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """Every member filters ``[*B, T, ...]`` in its own way; see :meth:`WorldModel.observe_sequence`."""
        z, choice = _parted(noise)
        asked = zip(self._models, self._split(state), strict=True)
        states = [member.observe_sequence(own, action, observation, is_init, z) for member, own in asked]
        time, shown, drawn = is_init.ndim - 2, state[SHOWN], []
        for t in range(is_init.shape[time]):
            now = None if choice is None else choice.select(time, t)
            shown = self._drawn(shown, now, is_init.select(time, t))
            drawn.append(shown)
        return self._joined(states, torch.stack(drawn, time))

    def imagine(self, state: State, action: Tensor, noise: Noise | None) -> Prediction:
        """What the drawn member predicts; see :class:`Ensemble` for the states of the others."""
        z, choice = _parted(noise)
        before = self._split(state)
        predicted = [member.imagine(own, action, z) for member, own in zip(self._models, before, strict=True)]
        again = torch.full_like(state[SHOWN], self.propagation == "TS1" and choice is not None, dtype=torch.bool)
        shown = self._drawn(state[SHOWN], choice, again)
        states = [prediction.state for prediction in predicted]
        if self.propagation != "apart":
            states = self._observed(before, action, states, shown)
        reward = _of_shown([prediction.reward for prediction in predicted], shown)
        cont = _of_shown([prediction.cont for prediction in predicted], shown)
        return Prediction(self._joined(states, shown), reward, cont)

    def decode(self, state: State) -> Observation:
        """The observation of each row's shown member."""
        if "decode" not in self.capabilities:
            return super().decode(state)
        return self._shown(self._split(state), state[SHOWN])

    def features(self, state: State) -> Tensor:
        """Features of all members side by side, ``[*B, M * F]``."""
        if "features" not in self.capabilities:
            return super().features(state)
        return torch.cat(self._each("features", state), -1)

    def value(self, state: State) -> Tensor:
        """The mean of the members' values, ``[*B, 1]``."""
        if "value" not in self.capabilities:
            return super().value(state)
        return torch.stack(self._each("value", state)).mean(0)

    def predict_members(self, state: State, action: Tensor, of: Quantity = "observation") -> MemberPredictions:
        """What each member expects, ``[*B, M, D]``, without a spread; see :meth:`WorldModel.predict_members`.

        Features can be compared where members share what they are features of. Members that begin with weights of their
        own each have a latent space of their own: compare observations or rewards.
        """
        needed = {"observation": "decode", "features": "features", "reward": "reward"}
        if of not in needed:
            raise ValueError(f"members predict one of {', '.join(needed)}; got {of!r}.")
        others = [name for name, need in needed.items() if need in self.capabilities]
        self.require(needed[of], driver=f"disagreement of={of!r}", remedy=f"pass of= one of {others}.")
        found = []
        for member, own in zip(self._models, self._split(state), strict=True):
            after, reward, _ = member.imagine(own, action, None)
            found.append(reward if of == "reward" else self._numbers(member, after, of))
        return MemberPredictions(torch.stack(found, -2), None)

    def objective(self) -> EnsembleLoss:
        """The members' own objectives, each on rows of its own."""
        if "objective" not in self.capabilities:
            return super().objective()  # pyright: ignore[reportReturnType]
        return EnsembleLoss(self)

    def prepare(self, sequences: TensorDictBase) -> None:
        """Let every member fit what it estimates from data."""
        for member in self._models:
            member.prepare(sequences)

    def _numbers(self, member: WorldModel, state: State, of: Quantity) -> Tensor:
        """What a member predicts as numbers ``[*B, D]``."""
        if of == "features":
            return member.features(state)
        if self._groups is None:
            raise CapabilityError("these members decode no observation.")
        seen = self._groups.encode(member.decode(state))
        lead = state[next(iter(self._sizes))]
        batch = lead.shape[: lead.ndim - self._sizes[next(iter(self._sizes))]]
        return torch.cat([value.reshape(*batch, -1) for value in seen.values()], -1)

    def _observed(self, before: list[State], action: Tensor, states: list[State], shown: Tensor) -> list[State]:
        """Every member's state after it observed what the shown one predicted."""
        observation = self._shown(states, shown)
        is_init = torch.zeros_like(shown, dtype=torch.bool)
        asked = zip(self._models, before, strict=True)
        return [member.observe(own, action, observation, is_init, None) for member, own in asked]

    def _shown(self, states: list[State], shown: Tensor) -> Observation:
        seen = [member.decode(own) for member, own in zip(self._models, states, strict=True)]
        picked = {key: _of_shown([one[key] for one in seen], shown) for key in seen[0]}
        return cast(Observation, picked)

    def _drawn(self, shown: Tensor, choice: Tensor | None, again: Tensor) -> Tensor:
        """The member of each row: drawn where it is asked again, or was never drawn."""
        drawn = torch.zeros_like(shown) if choice is None else (choice * len(self.members)).long()
        return torch.where(again | (shown < 0), drawn.clamp(max=len(self.members) - 1), shown)

    def _each(self, verb: str, state: State) -> list[Tensor]:
        return [getattr(member, verb)(own) for member, own in zip(self._models, self._split(state), strict=True)]

    def _split(self, state: State) -> list[State]:
        """Each member's own state, ``[*B, ...]``."""
        parts = {key: state[f"members_{key}"] for key in self._sizes}
        rows = {key: value.unbind(value.ndim - self._sizes[key] - 1) for key, value in parts.items()}
        return [{key: rows[key][k] for key in rows} for k in range(len(self.members))]

    def _joined(self, states: list[State], shown: Tensor) -> State:
        """The members' states side by side, ``[*B, M, ...]``, and the member that is shown."""
        joined = {
            f"members_{key}": torch.stack([own[key] for own in states], states[0][key].ndim - size)
            for key, size in self._sizes.items()
        }
        return {**joined, SHOWN: shown}


def _parted(noise: Noise | None) -> tuple[Noise | None, Tensor | None]:
    """The members' common noise, and the draw of the member that is shown."""
    if noise is None:
        return None, None
    return {key: value for key, value in noise.items() if key != CHOICE}, noise[CHOICE]


def _of_shown(values: Sequence[Tensor | None], shown: Tensor) -> Tensor | None:
    """Out of each member's ``[*B, ...]`` that of each row's shown member ``[*B, 1]``; the first's where none is yet."""
    found = [value for value in values if value is not None]
    if len(found) < len(values):
        return None
    batch, value = shown.shape[:-1], torch.stack(found, shown.ndim - 1)
    index = shown.clamp(min=0).reshape(*batch, 1, *(1,) * (value.ndim - len(batch) - 1))
    return value.gather(len(batch), index.expand(*batch, 1, *value.shape[len(batch) + 1 :])).squeeze(len(batch))


def _check_members(models: list[Any]) -> None:
    odd = [model for model in models if not isinstance(model, WorldModel)]
    if odd:
        raise TypeError(f"an ensemble is made of world models; got a {type(odd[0]).__name__}.")
    if len(models) < 2 or len({id(model) for model in models}) < len(models):
        raise ValueError(
            f"an ensemble is made of two models or more, each an object with weights of its own; got {len(models)}, "
            f"{len({id(model) for model in models})} of them different."
        )
    kinds = sorted({type(model).__name__ for model in models})
    if len(kinds) > 1 or kinds == ["Ensemble"]:
        raise TypeError(f"members are of one class, and no ensembles themselves; got {', '.join(kinds)}.")
    for name in ("observation_spec", "action_spec", "state_spec", "noise_spec", "capabilities", "config"):
        first = getattr(models[0], name, None)
        if any(getattr(model, name, None) != first for model in models[1:]):
            raise ValueError(
                f"the members differ in their {name}: build all of them from one config and one pair of specs."
            )


def _family(name: str) -> type[PretrainedModel]:
    """The class of a saved ensemble's members."""
    from wmcomponents.models import MODELS  # which imports this module

    if name not in MODELS:
        raise ValueError(f"the families known here are {', '.join(MODELS)}; the members are of {name!r}")
    return MODELS[name]
