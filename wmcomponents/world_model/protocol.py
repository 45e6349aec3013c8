"""The protocol every world model follows: h = Enc(x), s' = Pred(h, s, z, a), with z as an input.

A model author writes each verb once, on tensors; :class:`VerbModule` gives every verb its TensorDict form.
"""

import inspect
from abc import ABCMeta, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torchrl.data import Composite, TensorSpec

from wmcomponents.codecs import is_environment, is_space, specs_from
from wmcomponents.world_model.noise import Noise, NoiseSource
from wmcomponents.world_model.spec_checks import both_verbs, check_flat, check_kinds, items_of
from wmcomponents.world_model.verb_module import VerbModule

State = dict[str, Tensor]
Observation = dict[str, Tensor]
Verb = Literal["observe", "imagine"]

CAPABILITIES = ("decode", "features", "reward", "continue", "value", "objective", "inplace", "members", "goal")

Quantity = Literal["observation", "features", "reward"]
"""What members predict of the next step: the observation, as numbers side by side; the features; the reward."""


PROTOCOL_KEYS = frozenset({"action", "prev_action", "reward", "continue", "is_init", "noise", "next"})
"""Names that states and observations may not take: TensorDicts hold them beside each other."""


class CapabilityError(TypeError):
    """A driver needs something that the model does not have; the message names both and the remedy."""


class Prediction(NamedTuple):
    """What one dream step returns.

    Attributes:
        state: s_{t+1}, every key of ``state_spec``.
        reward: r_{t+1} in env units, ``[*B, 1]``; ``None`` when the model has no reward.
        cont: P(not terminated)_{t+1} in [0, 1], ``[*B, 1]``; ``None`` when the model does not predict it.
    """

    state: State
    reward: Tensor | None
    cont: Tensor | None


class MemberPredictions(NamedTuple):
    """What each member of an ensemble predicts of the next step, without noise.

    Attributes:
        mean: what it expects, float ``[*B, M, D]``.
        std: the spread that it expects around that, ``[*B, M, D]``; ``None`` where members predict no spread.
    """

    mean: Tensor
    std: Tensor | None


class _Constructed(ABCMeta):
    """Lets every world model be built from what a user has at hand: see :meth:`WorldModel.arguments_from`."""

    if not TYPE_CHECKING:  # a checker reads the constructors' own signatures

        def __call__(cls, *args: Any, **kwargs: Any) -> Any:
            names = list(inspect.signature(cls.__init__).parameters)[1:]
            given = {**dict(zip(names, args, strict=False)), **kwargs}
            rest = args[len(names) :]
            ready = cls.arguments_from(dict(given))
            if all(ready.get(name) is given.get(name) for name in ready.keys() | given.keys()):
                return super().__call__(*args, **kwargs)  # nothing to read: any complaint is the constructor's own
            return super().__call__(*rest, **ready)


class WorldModel(nn.Module, metaclass=_Constructed):
    r"""A trained model of an environment: state in, state out, randomness from outside.

    Four rules make everything derived from it simple:

    1. **z is an input.** A step is a deterministic function of (state, action, noise). ``noise=None`` asks for the
       mode, the most likely z.
    2. **A state is a value.** No verb mutates its inputs or returns a tensor that shares memory with them; but for
       :meth:`imagine_inplace`, whose caller gives the state away.
    3. **TorchRL's time.** s_t has seen x_0..x_t and a_0..a_{t-1}; acting with a_t gives r_{t+1}, terminated_{t+1} and
       x_{t+1}.
    4. **Capabilities are asked, not guessed**: see :attr:`capabilities`.

    Leading dims ``*B`` are free everywhere; all keys of observation and state are flat strings. Rewards, continuation
    and flags end in a dimension of size 1.

    Args:
        observation_spec: spec of ONE real observation, a ``Composite`` without batch dims.
        action_spec: spec of ONE real action, without batch dims.
        state_spec: everything that passes from t to t+1, for one row.
        noise_spec: the z of one step as base noise: leaves are ``Bounded(0, 1)`` (uniform) or ``Unbounded`` (standard
            normal). A flat ``Composite`` serves both verbs; one with the entries ``"observe"`` and ``"imagine"`` gives
            each its own. ``None`` or empty: the model is deterministic.

    Raises:
        TypeError, ValueError: if a spec has batch dims, nested keys, a reserved or shared key, or a noise leaf that is
            neither uniform nor normal.
    """

    def __init__(
        self,
        *,
        observation_spec: Composite,
        action_spec: TensorSpec,
        state_spec: Composite,
        noise_spec: Composite | None = None,
    ) -> None:
        super().__init__()
        for name, spec in (("observation_spec", observation_spec), ("state_spec", state_spec)):
            check_flat(name, spec)
        clashes = sorted(set(state_spec.keys()) & (set(observation_spec.keys()) | PROTOCOL_KEYS))
        clashes += sorted(set(observation_spec.keys()) & PROTOCOL_KEYS)
        if clashes:
            raise ValueError(
                f"state and observation keys must differ from each other and from the protocol's own "
                f"({', '.join(sorted(PROTOCOL_KEYS))}); rename {clashes}."
            )
        self.observation_spec = observation_spec
        self.action_spec = action_spec
        self.state_spec = state_spec
        self.noise_spec = both_verbs(noise_spec)

    @classmethod
    def arguments_from(cls, given: dict[str, Any]) -> dict[str, Any]:
        """The constructor's arguments, where a user gives Gymnasium spaces or an environment in place of specs.

        Args:
            given: arguments by name. ``observation_spec`` may be an observation space, or an environment of TorchRL or
                Gymnasium, which tells the action as well; ``action_spec`` may be an action space. The entry ``is_init``
                of an environment's ``observation_spec`` is left out.

        Raises:
            SpaceError: if a space cannot be modelled.
            TypeError: if what is given is neither specs, nor spaces, nor an environment.
        """
        source, action = given.get("observation_spec"), given.get("action_spec")
        if isinstance(source, Composite) and "is_init" in source.keys():  # the environment's own spec
            source = Composite({key: leaf for key, leaf in items_of(source) if key != "is_init"}, shape=source.shape)
            given = {**given, "observation_spec": source}
        if is_environment(source):
            if action is not None:
                raise TypeError("an environment tells observations and actions: leave the third argument out.")
        elif not (is_space(source) or is_space(action) or isinstance(source, str)):
            check_kinds(cls.__name__, given)
            return given
        observed, acted = specs_from(source, action)
        return {**given, "observation_spec": observed, "action_spec": acted}

    # -- the verbs a family writes ---------------------------------------------------------------------------------

    def initial_state(self, batch_size: Sequence[int] = (), device: torch.device | str | None = None) -> State:
        """The state before anything was seen: zeros, ``[*batch_size, ...]`` for each key of ``state_spec``."""
        return {
            key: torch.zeros(*batch_size, *spec.shape, dtype=spec.dtype, device=device)
            for key, spec in items_of(self.state_spec)
        }

    def null_action(self, batch_size: Sequence[int] = (), device: torch.device | str | None = None) -> Tensor:
        """The action before an episode's first, ``[*batch_size, ...]``: zero, unless a family says otherwise."""
        return self.action_spec.zero(torch.Size(batch_size)).to(device)

    @abstractmethod
    def observe(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """Filter: s_t from s_{t-1}, a_{t-1} and the real x_t.

        Args:
            state: s_{t-1}, ``[*B, ...]``. Ignored where ``is_init`` is true.
            action: a_{t-1}, the action that led here, ``[*B, ...]`` as ``action_spec`` says. Ignored where ``is_init``.
            observation: x_t, one entry for each key of ``observation_spec``.
            is_init: whether x_t is the first of its episode, or the first that is known of it, bool ``[*B, 1]``.
            noise: z as base noise (``noise_spec["observe"]``), or ``None`` for the mode. A deterministic model receives
                an empty dict or ``None``, and reads neither.
        """

    @abstractmethod
    def imagine(self, state: State, action: Tensor, noise: Noise | None) -> Prediction:
        """Dream: s_{t+1}, r_{t+1} and P(not terminated)_{t+1} from s_t and a_t.

        Args:
            state: s_t, ``[*B, ...]``.
            action: a_t, ``[*B, ...]`` as ``action_spec`` says.
            noise: z as base noise (``noise_spec["imagine"]``), or ``None`` for the mode; likewise.
        """

    def imagine_inplace(self, state: State, action: Tensor, noise: Noise | None) -> Prediction:
        """The same step as :meth:`imagine`, from a state that the caller gives away. Optional.

        The one exception to rule 2, for states that are costly to copy, such as a transformer's cache: a model that
        writes this method (capability ``inplace``) may overwrite the tensors of ``state``, and its answer may share
        memory with them, and with nothing else. The values are those of :meth:`imagine`, exactly. Whoever calls it owns
        the state, holds no other reference to it, and does not read it again.

        By default it is :meth:`imagine`.

        Args:
            state: s_t, ``[*B, ...]``; lost to the caller.
            action: a_t.
            noise: z as base noise, or ``None`` for the mode.
        """
        return self.imagine(state, action, noise)

    def decode(self, state: State) -> Observation:
        """The observation that s_t shows, ``[*B, ...]`` by key, in the real space, dtype and layout. Optional."""
        raise CapabilityError(f"{type(self).__name__} has no decoder; use its latent view, or give it a decoder.")

    def features(self, state: State) -> Tensor:
        """What a policy reads in latent space, float ``[*B, F]``. Optional."""
        raise CapabilityError(f"{type(self).__name__} offers no features; use its decoded view, or write features().")

    def value(self, state: State) -> Tensor:
        """Expected return from s_t, ``[*B, 1]``. Optional."""
        raise CapabilityError(f"{type(self).__name__} predicts no value; pass a terminal-value function instead.")

    def achieved_goal(self, state: State) -> Tensor:
        """What of s_t is compared with a goal, float ``[*B, G]``. Optional, with the three that follow."""
        raise _no_goal(self)

    def desired_goal(self, state: State) -> Tensor:
        """The goal of s_t, ``[*B, G]``: where :meth:`achieved_goal` is to come. Optional."""
        raise _no_goal(self)

    def goal_free_features(self, state: State) -> Tensor:
        """What a policy reads of s_t beside its goal, float ``[*B, F]``. Optional."""
        raise _no_goal(self)

    def goal_reward(self, achieved: Tensor, desired: Tensor) -> Tensor:
        """What is paid for having achieved this where that is desired, ``[*B, 1]`` of ``[*B, G]`` each. Optional."""
        raise _no_goal(self)

    def predict_members(self, state: State, action: Tensor, of: Quantity = "observation") -> MemberPredictions:
        """What each member of an ensemble predicts of s_{t+1}, from s_t and a_t and without noise. Optional.

        Args:
            state: s_t, ``[*B, ...]``.
            action: a_t, ``[*B, ...]``.
            of: what is predicted.

        Raises:
            CapabilityError: if the model has no members, or they do not predict this.
        """
        raise CapabilityError(
            f"{type(self).__name__} is no ensemble, so nothing in it can disagree: make one of several such models, "
            f"Ensemble.of(lambda: {type(self).__name__}(...), members=5), and train it."
        )

    def objective(self) -> nn.Module:
        """A TorchRL ``LossModule`` that trains this model on TorchRL-layout sequences. Optional."""
        raise CapabilityError(f"{type(self).__name__} has no training objective; pass objective=... to train().")

    def prepare(self, sequences: TensorDictBase) -> None:
        """Fit what is estimated from data rather than learned, such as the scale of observations; nothing by default.

        Args:
            sequences: real data in TorchRL's layout, any batch.
        """

    @property
    def infers_actions(self) -> bool:
        """Whether its actions are codes that it infers from films, and not those of an environment."""
        return False

    def relabelled(self, sequences: TensorDictBase) -> TensorDictBase:
        """Recorded sequences with the actions that this model takes; as they are, unless it infers actions itself.

        Whatever reads recorded data asks for it: a model that learned what actions are from films alone tells by it
        what was done in them.

        Args:
            sequences: ``[B, T]`` in TorchRL's layout; left as they are.
        """
        return sequences

    # -- what follows from them --------------------------------------------------------------------------------------

    def observe_sequence(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """Filter a whole sequence: T times :meth:`observe`, with a time dimension after the batch's.

        Args:
            state: the state before the sequence, ``[*B, ...]``.
            action: ``[*B, T, ...]``; the action at index t is the one that LED to observation t.
            observation: ``[*B, T, ...]``.
            is_init: bool ``[*B, T, 1]``.
            noise: ``[*B, T, ...]``, or ``None`` for the mode.

        Returns:
            The states s_0..s_{T-1}, ``[*B, T, ...]``.
        """
        time = is_init.ndim - 2
        states = []
        for t in range(is_init.shape[time]):
            state = self.observe(
                state,
                action.select(time, t),
                {key: value.select(time, t) for key, value in observation.items()},
                is_init.select(time, t),
                None if noise is None else {key: value.select(time, t) for key, value in noise.items()},
            )
            states.append(state)
        return {key: torch.stack([s[key] for s in states], time) for key in states[0]}

    def observe_last(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """Filter a whole sequence and keep the last state, ``[*B, ...]``: :meth:`observe_sequence` at its last index.

        A model whose states are large overrides this, so that they are never held all at once.

        Args:
            state: as :meth:`observe_sequence`, like everything else.
            action: ``[*B, T, ...]``.
            observation: ``[*B, T, ...]``.
            is_init: bool ``[*B, T, 1]``.
            noise: ``[*B, T, ...]``, or ``None`` for the mode.
        """
        states = self.observe_sequence(state, action, observation, is_init, noise)
        return {key: value.select(is_init.ndim - 2, -1).clone() for key, value in states.items()}

    def state_bytes(self, rows: int = 1) -> int:
        """Memory that the states of so many rows take."""
        return rows * sum(leaf.shape.numel() * leaf.dtype.itemsize for _, leaf in items_of(self.state_spec))

    @property
    def capabilities(self) -> frozenset[str]:
        """What this model can do, out of :data:`CAPABILITIES`.

        By default: the optional verbs that the class writes, plus reward and continue. A model that lacks a part it
        could have had (no decoder, no reward head) overrides this to take the name out.
        """
        written = {name for name in ("decode", "features", "value", "objective") if _overrides(self, name)}
        inplace = {"inplace"} if _overrides(self, "imagine_inplace") else set()
        members = {"members"} if _overrides(self, "predict_members") else set()
        goal = {"goal"} if _overrides(self, "achieved_goal") else set()
        return frozenset(written | inplace | members | goal | {"reward", "continue"})

    def require(self, *needs: str, driver: str, remedy: str) -> None:
        """Refuse a driver whose needs this model does not meet.

        Raises:
            CapabilityError: naming the model, the driver, what is missing and what to do.
        """
        capabilities = self.capabilities
        missing = [need for need in needs if need not in capabilities]
        if missing:
            raise CapabilityError(
                f"{driver} needs {', '.join(missing)} of its model, and {type(self).__name__} has only "
                f"{', '.join(sorted(capabilities)) or 'nothing'}: {remedy}"
            )

    def noise_source(self, verb: Verb) -> NoiseSource:
        """The sampler of base noise for one verb."""
        return NoiseSource(cast(Composite, self.noise_spec[verb]))

    def module(self, verb: str, **rename: Any) -> VerbModule:
        """The TensorDict form of a verb: ``"observe"``, ``"imagine"``, ``"decode"``, ``"features"`` or ``"value"``."""
        return VerbModule(self, verb, **rename)


def _no_goal(model: WorldModel) -> CapabilityError:
    return CapabilityError(
        f"{type(model).__name__} knows no goals: wrap it, GoalWorldModel({type(model).__name__}(...)), and its dreams "
        f"are paid for coming near them."
    )


def _overrides(model: WorldModel, name: str) -> bool:
    return getattr(type(model), name) is not getattr(WorldModel, name)
