"""A world model under examination: situations to put it in, and what its verbs answer."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor
from torchrl.data import Bounded, Composite

from wmcomponents.testing.sampling import draw, draw_all
from wmcomponents.world_model import Noise, Observation, Prediction, State, WorldModel

ROWS = 8
"""Rows of the situations in which values are compared."""

Answer = dict[str, Tensor]
"""Everything that a verb returned, flat: ``state['deter']``, ``reward``, ``cont``, ``observation['pixels']`` ..."""


@dataclass(frozen=True)
class TestInputs:
    """Everything that any verb could be given, for the same rows.

    Attributes:
        batch: the leading dims ``*B``.
        state: ``[*B, ...]``, reached by observing and imagining from the initial state.
        action: ``[*B, ...]``.
        observation: ``[*B, ...]``.
        is_init: bool ``[*B, 1]``.
        observe_noise: z for ``observe``; ``None`` for the mode.
        imagine_noise: z for ``imagine``; ``None`` for the mode.
    """

    batch: tuple[int, ...]
    state: State
    action: Tensor
    observation: Observation
    is_init: Tensor
    observe_noise: Noise | None
    imagine_noise: Noise | None

    def map(self, function: Callable[[Tensor], Tensor], batch: Sequence[int]) -> "TestInputs":
        """The situation with a function applied to every tensor, whose leading dims are then ``batch``."""
        return TestInputs(
            tuple(batch),
            {key: function(value) for key, value in self.state.items()},
            function(self.action),
            {key: function(value) for key, value in self.observation.items()},
            function(self.is_init),
            None if self.observe_noise is None else {key: function(v) for key, v in self.observe_noise.items()},
            None if self.imagine_noise is None else {key: function(v) for key, v in self.imagine_noise.items()},
        )

    def row(self, *index: int) -> "TestInputs":
        """One row, without leading dims; a copy."""
        return self.map(lambda tensor: tensor[index].clone(), ())

    def copy(self) -> "TestInputs":
        """The same values in other memory."""
        return self.map(torch.clone, self.batch)

    def mode(self) -> "TestInputs":
        """The same without noise."""
        return replace(self, observe_noise=None, imagine_noise=None)

    def begun(self) -> "TestInputs":
        """The same with every row at the first step of its episode."""
        return replace(self, is_init=torch.ones_like(self.is_init))

    def named(self, verb: str) -> Answer:
        """What ``verb`` reads, by name."""
        named = flat("state", self.state)
        if verb in ("observe", "imagine"):
            named["action"] = self.action
            noise = self.observe_noise if verb == "observe" else self.imagine_noise
            named |= flat("noise", noise or {})
        if verb == "observe":
            named |= flat("observation", self.observation)
            named["is_init"] = self.is_init
        return named


class ModelProbe:
    """Puts a world model into random situations that conform to its specs.

    The model is examined in eval mode, as every driver runs it.

    Args:
        model: the world model.
        seed: of everything drawn.
        batch_sizes: the leading dims to try.
        compile: whether the clauses on ``torch.compile`` are to be checked.
    """

    def __init__(
        self, model: WorldModel, seed: int, batch_sizes: Sequence[Sequence[int]], compile: bool = False
    ) -> None:
        self.model = model
        self.batch_sizes = [tuple(size) for size in batch_sizes]
        self.compile = compile
        self._seed = seed
        tensors = [*model.parameters(), *model.buffers()]
        self.device = tensors[0].device if tensors else torch.device("cpu")

    def generator(self, salt: int = 0) -> torch.Generator:
        """A fresh generator of the examiner's own; another salt, other numbers."""
        return torch.Generator().manual_seed(self._seed * 1_000_003 + salt)

    @property
    def verbs(self) -> tuple[str, ...]:
        """The tensor verbs that this model has."""
        optional = (verb for verb in ("decode", "features", "value") if verb in self.model.capabilities)
        return ("observe", "imagine", *optional)

    def noise(self, verb: str, batch: Sequence[int], generator: torch.Generator) -> Noise:
        """Base noise of one verb, drawn on the CPU and moved."""
        spec = cast(Composite, self.model.noise_spec[verb])
        drawn: Noise = {}
        for key, leaf in spec.items():
            sample = torch.rand if isinstance(leaf, Bounded) else torch.randn
            drawn[str(key)] = sample((*batch, *leaf.shape), generator=generator, dtype=leaf.dtype).to(self.device)
        return drawn

    def situation(self, batch: Sequence[int] = (ROWS,), salt: int = 0, model: WorldModel | None = None) -> TestInputs:
        """A random situation: reached by two observed steps and one imagined one from the initial state.

        Args:
            batch: leading dims.
            salt: another salt, another situation.
            model: the model whose states are reached; the one examined if not given.
        """
        model = self.model if model is None else model
        generator = self.generator(salt)
        batch = tuple(batch)
        state = self.conforming(model.initial_state(batch, self.device), batch)
        with torch.no_grad():
            for begins in (True, False):
                is_init = torch.full((*batch, 1), begins, device=self.device)
                action, observation = self.action(batch, generator), self.observation(batch, generator)
                noise = self.noise("observe", batch, generator)
                state = self.conforming(model.observe(state, action, observation, is_init, noise), batch)
            prediction = model.imagine(state, self.action(batch, generator), self.noise("imagine", batch, generator))
        state = self.conforming(prediction[0] if isinstance(prediction, tuple) else {}, batch)
        return TestInputs(
            batch,
            state,
            self.action(batch, generator),
            self.observation(batch, generator),
            torch.zeros(*batch, 1, dtype=torch.bool, device=self.device),
            self.noise("observe", batch, generator),
            self.noise("imagine", batch, generator),
        )

    def conforming(self, state: Any, batch: Sequence[int]) -> State:
        """A copy of a state that fits ``state_spec`` in any case, so that a fault is reported where it was made."""
        repaired: State = {}
        for key, leaf in self.model.state_spec.items():
            value, shape = state.get(key) if isinstance(state, Mapping) else None, (*batch, *leaf.shape)
            fits = isinstance(value, Tensor) and tuple(value.shape) == shape and value.device == self.device
            blank = torch.zeros(shape, dtype=leaf.dtype, device=self.device)
            repaired[str(key)] = cast(Tensor, value).to(leaf.dtype, copy=True) if fits else blank
        return repaired

    def situations(self) -> Iterator[TestInputs]:
        """One situation for each batch size."""
        for salt, batch in enumerate(self.batch_sizes):
            yield self.situation(batch, 100 + salt)

    def action(self, batch: Sequence[int], generator: torch.Generator) -> Tensor:
        """A random action."""
        return draw(self.model.action_spec, batch, generator).to(self.device)

    def observation(self, batch: Sequence[int], generator: torch.Generator) -> Observation:
        """A random observation."""
        drawn = draw_all(self.model.observation_spec, batch, generator)
        return {key: value.to(self.device) for key, value in drawn.items()}

    @torch.no_grad()
    def ask(self, verb: str, situation: TestInputs, model: WorldModel | None = None) -> Answer:
        """What a verb answers to a copy of a situation, flat and by name. ``None`` entries are left out."""
        return ask(self.model if model is None else model, verb, situation.copy())

    @cached_property
    def with_nonzero_weights(self) -> WorldModel:
        """The model, or a copy whose all-zero weight matrices hold small numbers.

        Many models begin with an output layer of zeros. Whether their answers *depend* on an input can only be asked
        with weights that let it through.
        """
        if not any(_is_asleep(parameter) for parameter in self.model.parameters()):
            return self.model
        twin = copy.deepcopy(self.model)
        generator = self.generator(7)
        with torch.no_grad():
            for parameter in twin.parameters():
                if _is_asleep(parameter):
                    drawn = torch.randn(parameter.shape, generator=generator) * parameter[0].numel() ** -0.5
                    parameter.copy_(drawn.to(parameter))
        return twin


def ask(model: WorldModel, verb: str, situation: TestInputs, call: Callable[..., Any] | None = None) -> Answer:
    """What a verb answers in a situation, flat and by name; gradients as the caller set them.

    Args:
        model: the world model.
        verb: which of its verbs.
        situation: what the verb is given.
        call: stands in for the verb; for example its compiled form.
    """
    call = cast(Callable[..., Any], getattr(model, verb) if call is None else call)
    if verb == "observe":
        given = situation.state, situation.action, situation.observation, situation.is_init, situation.observe_noise
        return flat("state", call(*given))
    if verb == "imagine":
        return flat_prediction(call(situation.state, situation.action, situation.imagine_noise))
    if verb == "decode":
        return flat("observation", call(situation.state))
    return {verb: call(situation.state)}


def flat(what: str, entries: Mapping[str, Tensor]) -> Answer:
    """Entries under the names that failures show: ``what['key']``."""
    return {f"{what}[{key!r}]": value for key, value in entries.items()}


def flat_prediction(prediction: Prediction) -> Answer:
    """A prediction by name, without what the model does not predict."""
    state, reward, cont = prediction
    answer = flat("state", state)
    answer |= {} if reward is None else {"reward": reward}
    return answer | ({} if cont is None else {"cont": cont})


def _is_asleep(parameter: Tensor) -> bool:
    return parameter.ndim > 1 and parameter.is_floating_point() and parameter.numel() > 0 and not bool(parameter.any())
