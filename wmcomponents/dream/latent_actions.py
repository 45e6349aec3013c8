"""Codes that were learned in place of actions: what each does, and which of them stands for an action of reality."""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from jaxtyping import Float, Int
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Categorical, OneHot, TensorSpec

from wmcomponents.codecs.image_spec import image_of
from wmcomponents.dream.starts import model_device
from wmcomponents.functional import one_hot
from wmcomponents.nn.mode import EvalMode
from wmcomponents.world_model import Noise, Observation, Prediction, State, WorldModel


class CodeEffects(NamedTuple):
    """What each code does in given states.

    Attributes:
        before: the frames of the states, uint8 ``[B, H, W, C]``.
        after: what follows under each code, uint8 ``[B, K, H, W, C]``.
        change: mean absolute change from the frame before, in [0, 1], ``[B, K]``.
        apart: mean absolute difference between what follows under two codes, ``[B, K, K]``: codes that do the same are
            0 apart.
    """

    before: Tensor
    after: Tensor
    change: Tensor
    apart: Tensor

    def table(self) -> str:
        """Codes in rows: the mean change, and the distance to every other code, in levels of 0 to 255."""
        change, apart = 255.0 * self.change.mean(0), 255.0 * self.apart.mean(0)
        codes = range(len(change))
        head = "code  change  " + "".join(f"{f'to {code}':>8}" for code in codes)
        rows = [f"{code:>4}  {change[code]:>6.2f}  " + "".join(f"{x:>8.2f}" for x in apart[code]) for code in codes]
        return "\n".join([head, *rows])

    def picture(self, row: int = 0, gap: int = 1) -> Tensor:
        """A state's frame, then what follows under each code; below it how each differs from the frame before.

        Args:
            row: the state.
            gap: white pixels between frames.

        Returns:
            uint8 ``[H', W', C]``.
        """
        before, after = self.before[row], self.after[row]
        away = (after.int() - before.int()).abs().to(torch.uint8)
        lines = [[before, *after], [torch.zeros_like(before), *away]]
        return _tiled(lines, gap)


@torch.no_grad()
def code_effects(model: WorldModel, state: State, *, steps: int = 1, noise: Noise | None = None) -> CodeEffects:
    """What each choice of a model's action does in given states, all with the same noise.

    Args:
        model: decodes one image, and is acted on by one choice out of several.
        state: ``[B, ...]``, such as the filter's after one image.
        steps: for how many the choice is held.
        noise: of one step ``[B, ...]``, the same in every step and for every choice; the mode if not given.

    Raises:
        CapabilityError: if the model decodes nothing.
        ValueError: if its observation is not one image, its action no choice, or there is no step.

    Example:
        >>> from torchrl.data import Bounded, Composite
        >>> from wmcomponents.models import Genie
        >>> image = Composite(pixels=Bounded(0, 255, (8, 8, 3), dtype=torch.uint8))
        >>> model = Genie("tiny", image)
        >>> effects = code_effects(model, model.initial_state((2,)))
        >>> effects.after.shape, effects.picture().shape
        (torch.Size([2, 6, 8, 8, 3]), torch.Size([17, 62, 3]))
    """
    model.require("decode", driver="a picture of codes", remedy="choose a model that decodes images.")
    key, _ = image_of(model.observation_spec, "code_effects")
    choices = number_of_choices(model.action_spec)
    if steps < 1:
        raise ValueError(f"a choice is held for at least one step; got steps={steps}.")
    with EvalMode(model):
        before = model.decode(state)[key].clone()
        rows = len(before)
        many = {name: value.repeat_interleave(choices, 0) for name, value in state.items()}
        same = None if noise is None else {name: value.repeat_interleave(choices, 0) for name, value in noise.items()}
        code = torch.arange(choices, device=before.device).repeat(rows)
        for _ in range(steps):
            many = model.imagine(many, _as_action(code, model.action_spec), same).state
        after = model.decode(many)[key].unflatten(0, (rows, choices))
    shown, frame = after.float() / 255.0, before.float().unsqueeze(1) / 255.0
    flat = shown.flatten(2)
    apart = torch.cdist(flat, flat, p=1.0) / flat.shape[-1]
    return CodeEffects(before, after, (shown - frame).abs().flatten(2).mean(-1), apart)


class CodeTable(NamedTuple):
    """How often each action of reality was told as each code.

    Attributes:
        counts: ``[A, K]``.
    """

    counts: Tensor

    @property
    def codes(self) -> Int[Tensor, " actions"]:
        r"""The code of each action: where :math:`P(action | code)\, P(code | action)` is largest.

        The code that is told most often may be told of every action; one that is told of this action alone says more.
        An action that was never seen takes the code that is told most.
        """
        total = self.counts.sum()
        of_action = self.counts / self.counts.sum(1, keepdim=True).clamp_min(1.0)
        of_code = self.counts / self.counts.sum(0, keepdim=True).clamp_min(1.0)
        score = torch.where(self.counts.sum(1, keepdim=True) > 0, of_action * of_code, self.counts.sum(0) / total)
        return score.argmax(1)


def code_table(model: WorldModel, sequences: TensorDictBase, action_spec: TensorSpec) -> CodeTable:
    """Count which codes a model tells of the steps in which each action was taken: a few labelled steps are enough.

    Args:
        model: infers codes from films, such as a :class:`~wmcomponents.models.Genie`.
        sequences: real steps ``[B, T]`` with the actions that were taken.
        action_spec: of these actions, one choice.

    Raises:
        ValueError: if the actions are no choice, or the model infers none.
    """
    if not model.infers_actions:
        raise ValueError(
            f"{type(model).__name__} infers no actions, so there are no codes to compare with: use a Genie, or give "
            f"its dreams the actions themselves."
        )
    taken = _numbers(sequences["action"], action_spec)
    codes = _numbers(model.relabelled(sequences)["action"], model.action_spec)
    actions, choices = number_of_choices(action_spec), number_of_choices(model.action_spec)
    pairs = (taken.long() * choices + codes.to(taken.device)).flatten()
    return CodeTable(torch.bincount(pairs, minlength=actions * choices).view(actions, choices).float())


class MappedActions(WorldModel):
    """A world of codes that takes the actions of reality: each is the code that stands for it.

    So an agent with the environment's own actions learns in dreams of a world that was learned without any, and acts
    in the environment as it is. The filter takes recorded actions likewise.

    Args:
        model: is acted on by one choice of codes.
        codes: of each action, int64 ``[A]``, such as ``code_table(...).codes``.
        action_spec: of the environment: one choice out of A.

    Raises:
        ValueError: if there are not as many codes as actions, or a code is out of range.

    Example:
        >>> from torchrl.data import Bounded, Composite
        >>> from wmcomponents.models import Genie
        >>> image = Composite(pixels=Bounded(0, 255, (8, 8, 3), dtype=torch.uint8))
        >>> played = MappedActions(Genie("tiny", image), torch.tensor([0, 3, 3]), OneHot(3))
        >>> played.action_spec.space.n
        3
    """

    codes: Tensor

    def __init__(self, model: WorldModel, codes: Int[Tensor, " actions"], action_spec: TensorSpec) -> None:
        actions, choices = number_of_choices(action_spec), number_of_choices(model.action_spec)
        codes = torch.as_tensor(codes, dtype=torch.int64)
        if codes.shape != (actions,):
            raise ValueError(f"each of the {actions} actions has a code; got codes of shape {list(codes.shape)}.")
        if bool(((codes < 0) | (codes >= choices)).any()):
            raise ValueError(f"the codes of {type(model).__name__} are 0 to {choices - 1}; got {codes.tolist()}.")
        super().__init__(
            observation_spec=model.observation_spec,
            action_spec=action_spec,
            state_spec=model.state_spec,
            noise_spec=model.noise_spec,
        )
        self.model = model
        self.register_buffer("codes", codes.to(model_device(model)))

    @property
    def capabilities(self) -> frozenset[str]:
        """The model's, but for its objective, which learns from actions as they are recorded."""
        return self.model.capabilities & {"decode", "features", "reward", "continue", "value", "inplace"}

    def code_of(self, action: Tensor) -> Tensor:
        """The model's action that stands for one of reality, ``[*B, ...]``."""
        return _as_action(self.codes[_numbers(action, self.action_spec)], self.model.action_spec)

    def initial_state(self, batch_size: Sequence[int] = (), device: torch.device | str | None = None) -> State:
        """The model's."""
        return self.model.initial_state(batch_size, device)

    def observe(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """The model's filter, told the code of the action."""
        return self.model.observe(state, self.code_of(action), observation, is_init, noise)

    def imagine(self, state: State, action: Tensor, noise: Noise | None) -> Prediction:
        """The model's step under the code of the action."""
        return self.model.imagine(state, self.code_of(action), noise)

    def imagine_inplace(self, state: State, action: Tensor, noise: Noise | None) -> Prediction:
        """The same, in a state that is given away."""
        return self.model.imagine_inplace(state, self.code_of(action), noise)

    def decode(self, state: State) -> Observation:
        """The model's."""
        return self.model.decode(state)

    def features(self, state: State) -> Tensor:
        """The model's."""
        return self.model.features(state)

    def value(self, state: State) -> Tensor:
        """The model's."""
        return self.model.value(state)


def number_of_choices(spec: TensorSpec) -> int:
    """How many actions there are to choose one of.

    Raises:
        ValueError: if an action is anything else.
    """
    if type(spec) not in (OneHot, Categorical) or len(spec.shape) > (1 if isinstance(spec, OneHot) else 0):
        raise ValueError(
            f"codes stand for single choices (OneHot or Categorical); got a {type(spec).__name__} of shape "
            f"{list(spec.shape)}."
        )
    return int(cast(OneHot, spec).space.n)


def _numbers(action: Tensor, spec: TensorSpec) -> Int[Tensor, "*batch"]:
    """The number of each choice; none at all counts as the first."""
    return action.long().argmax(-1) if isinstance(spec, OneHot) else action.long().clamp_min(0)


def _as_action(number: Int[Tensor, "*batch"], spec: TensorSpec) -> Float[Tensor, "*batch n"] | Int[Tensor, "*batch"]:
    """Numbers of choices as a spec has them."""
    if not isinstance(spec, OneHot):
        return number
    return one_hot(number, spec.shape[-1]).to(cast(torch.dtype, spec.dtype))


def _tiled(lines: Sequence[Sequence[Tensor]], gap: int) -> Tensor:
    """Frames side by side in lines below each other, with white between."""
    height, width, channels = lines[0][0].shape
    rows, columns = len(lines), len(lines[0])
    out = torch.full(
        (rows * height + (rows - 1) * gap, columns * width + (columns - 1) * gap, channels), 255, dtype=torch.uint8
    )
    for i, line in enumerate(lines):
        for j, frame in enumerate(line):
            top, left = i * (height + gap), j * (width + gap)
            out[top : top + height, left : left + width] = frame
    return out
