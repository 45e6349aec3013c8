"""A dream that somebody plays: steps, the way back, branches. Knows no web."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from wmcomponents.dream.starts import FixedStarts
from wmcomponents.play.controls import Controls
from wmcomponents.play.errors import PlayError
from wmcomponents.play.kept_states import KeptStates
from wmcomponents.play.played_simulator import played_simulator
from wmcomponents.play.reality import RealStep
from wmcomponents.play.saliency import action_saliency
from wmcomponents.play.start_menu import Start, StartMenu
from wmcomponents.rendering.renderers import Renderer, make_renderer
from wmcomponents.world_model import Observation, WorldModel

MOST_BRANCHES = 200
MOST_STEPS = 20_000
"""Of a branch; what is seen at each of them is kept."""

MEMORY = 2**29
"""Bytes of states that are kept, if not said otherwise."""

SEEDS = 2**31
"""Seeds are below."""


class Moment(NamedTuple):
    """One point of a dream.

    Attributes:
        number: unlike that of any other moment of the session.
        observation: what is seen, arrays by key.
        action: what led here, ``[*shape]``; ``None`` at a start.
        value: the same as :class:`Controls` say it.
        reward: of the step that led here.
        total: the rewards since the start.
        chance: the probability with which that step ended the episode; ``None`` where the model predicts none.
        ended: whether it ended the episode.
        uncertainty: of that step; ``None`` where none is measured.
        luck: the seed by which the noise was drawn anew before that step, if it was.
        real: what reality shows here; ``None`` where none goes along.
    """

    number: int
    observation: dict[str, np.ndarray]
    action: Tensor | None = None
    value: Any = None
    reward: float = 0.0
    total: float = 0.0
    chance: float | None = None
    ended: bool = False
    uncertainty: float | None = None
    luck: int | None = None
    real: RealStep | None = None


@dataclass
class Branch:
    """A line of moments, from a start to where it was last played.

    Attributes:
        number: unlike that of any other branch of the session.
        start: where it begins.
        moments: all of them; those before a fork are shared with the branch it left.
        parent: the branch that it left and at which step; ``None`` for one that begins at a start.
    """

    number: int
    start: Start
    moments: list[Moment]
    parent: tuple[int, int] | None = None


class Session:
    """Plays one dream of a model: a cursor on a branch of moments, each of which can be gone back to.

    A state is a value, so nothing is ever lost: a step from an earlier moment leaves the future that was there on its
    branch and begins a new one. The same action from the same moment leads to the same future, noise included, so that
    such a step goes along the branch that is there; with other ``luck`` it does not.

    Args:
        model: the world model; a picture of it is decoded where it has a decoder, else its features are drawn.
        menu: where dreams begin.
        controls: of its actions; with plain numbers if not given.
        env_id: the environment whose renderer draws what is seen.
        memory: bytes of states that are kept; those between are computed again when they are wanted.
        seed: of all seeds that are not given.

    Attributes:
        branches: by number.
        branch: the one that is played.
        cursor: the step on it.
        simulator: the dream.
    """

    def __init__(
        self,
        model: WorldModel,
        menu: StartMenu | None = None,
        *,
        controls: Controls | None = None,
        env_id: str | None = None,
        memory: int = MEMORY,
        seed: int | None = None,
    ) -> None:
        self.model = model
        self.menu = StartMenu(model) if menu is None else menu
        self.simulator = played_simulator(model)
        self.controls = Controls(model.action_spec, device=self.simulator.device) if controls is None else controls
        self.render: Renderer = make_renderer(env_id, self.simulator.observation_spec, enlarge=False)
        self.branches: dict[int, Branch] = {}
        self.cursor = 0
        self._kept = KeptStates(memory)
        self._moments, self._numbers = itertools.count(), itertools.count(1)
        self._random = np.random.default_rng(seed)
        self._stands = -1
        kinds = self.menu.describe()
        self.begin(next(kind for kind, count in kinds.items() if count and kind not in ("image", "reality")))

    @property
    def moment(self) -> Moment:
        """Where the cursor stands."""
        return self.branch.moments[self.cursor]

    @property
    def has_reward(self) -> bool:
        """Whether the model predicts rewards."""
        return "reward" in self.model.capabilities

    def begin(self, kind: str, number: int | None = None, seed: int | None = None) -> Branch:
        """A new branch from a start of the menu (:meth:`StartMenu.start`).

        Raises:
            PlayError: if there is no such start, or there are too many branches.
        """
        self._check_room()
        return self._begun(self.menu.start(kind, number, self._seed(seed)))

    def begin_from_image(self, data: bytes, seed: int | None = None) -> Branch:
        """A new branch from an encoded image (:meth:`StartMenu.from_image`).

        Raises:
            PlayError: if it is none, or the model sees none.
        """
        self._check_room()
        return self._begun(self.menu.from_image(data, self._seed(seed)))

    def step(self, value: Any, *, luck: bool = False) -> Moment:
        """Take a step, and stand where it leads.

        Args:
            value: the action, as :class:`Controls` read it.
            luck: draw the noise anew, so that the same action may lead elsewhere.

        Raises:
            PlayError: if it is no action, or the episode is over.
        """
        action = self.controls.read(value)
        branch, here = self.branch, self.moment
        if here.ended:
            raise PlayError("this episode is over: go back, or begin anew.")
        if self.cursor + 1 < len(branch.moments):
            following = branch.moments[self.cursor + 1]
            if not luck and following.action is not None and torch.equal(following.action, action[0].cpu()):
                self.cursor += 1
                return following
            branch = self.fork()
        if self.cursor >= MOST_STEPS:
            raise PlayError(f"a branch has at most {MOST_STEPS:,} steps: begin anew.")
        drawn = self._seed(None) if luck else None
        self._stand(branch, self.cursor)
        after = self._taken(here, action, self.controls.value_of(action[0]), drawn)
        if self.menu.reality is not None and here.real is not None:
            line = [each.real for each in branch.moments if each.real is not None]
            actions = [each.action for each in branch.moments[1:] if each.action is not None]
            after = after._replace(real=self.menu.reality.step(line, actions, branch.start.seed, action[0]))
        branch.moments.append(after)
        self.cursor += 1
        return after

    def go(self, step: int) -> Moment:
        """Stand at another step of this branch: back, or forward into what was played there.

        Raises:
            PlayError: if it has no such step.
        """
        if not 0 <= step < len(self.branch.moments):
            raise PlayError(f"this branch has the steps 0 to {len(self.branch.moments) - 1}; got {step}.")
        self.cursor = step
        return self.moment

    def fork(self) -> Branch:
        """A new branch that shares all up to the cursor; what follows on the old one stays there.

        Raises:
            PlayError: if there are too many branches.
        """
        self._check_room()
        old = self.branch
        moments = old.moments[: self.cursor + 1]
        self.branch = Branch(next(self._numbers), old.start, moments, (old.number, self.cursor))
        self.branches[self.branch.number] = self.branch
        return self.branch

    def switch(self, branch: int) -> Branch:
        """Stand at the end of another branch, by its number.

        Raises:
            PlayError: if there is no such branch.
        """
        self.branch = self._branch(branch)
        self.cursor = len(self.branch.moments) - 1
        return self.branch

    def remove(self, branch: int) -> None:
        """Forget a branch, by its number, that is not the one being played.

        Raises:
            PlayError: if there is no such branch, or it is the one being played.
        """
        gone = self._branch(branch)
        if gone is self.branch:
            raise PlayError("this branch is being played: switch to another one first.")
        del self.branches[branch]
        left = {moment.number for each in self.branches.values() for moment in each.moments}
        self._kept.forget(moment.number for moment in gone.moments if moment.number not in left)

    def picture(self, moment: Moment | None = None) -> np.ndarray:
        """A moment of the dream as a frame, uint8 ``(H, W, 3)``; the one at the cursor if not given."""
        return self.render((self.moment if moment is None else moment).observation)

    def real_picture(self, moment: Moment | None = None) -> np.ndarray | None:
        """What reality shows at a moment, as a frame; ``None`` where none goes along."""
        real = (self.moment if moment is None else moment).real
        return None if real is None else self.render(real.observation)

    def saliency(self) -> np.ndarray | None:
        """Where the next frame depends on the action, in [0, 1], ``(H, W)`` of a frame; ``None`` after the end."""
        if self.moment.ended:
            return None
        self._stand(self.branch, self.cursor)

        def draw(seen: Observation) -> list[np.ndarray]:
            arrays = _arrays(seen)
            return [self.render({key: value[i] for key, value in arrays.items()}) for i in range(len(actions))]

        actions = self.controls.alternatives()
        return action_saliency(self.simulator, self.simulator.state, actions, draw, seed=self.branch.start.seed)

    def _begun(self, start: Start) -> Branch:
        simulator = self.simulator
        simulator.starts = FixedStarts(start.state)
        simulator.seed(start.seed)
        seen = simulator.reset()
        root = Moment(next(self._moments), _row(seen), real=start.real)
        self._kept.keep(root.number, simulator.get_state(), root=True)
        self._stands = root.number
        self.branch = Branch(next(self._numbers), start, [root])
        self.branches[self.branch.number] = self.branch
        self.cursor = 0
        return self.branch

    def _stand(self, branch: Branch, step: int) -> None:
        """Put the simulator at a step of a branch, whose state may have to be computed again."""
        if self._stands == branch.moments[step].number:
            return
        nearest = next(k for k in range(step, -1, -1) if branch.moments[k].number in self._kept)
        self.simulator.set_state(self._kept[branch.moments[nearest].number])
        self._stands = branch.moments[nearest].number
        for moment in branch.moments[nearest + 1 : step + 1]:
            self._advance(moment.number, moment.action, moment.luck)

    def _advance(self, number: int, action: Any, luck: int | None) -> Any:
        """Step the simulator, and keep the state it comes to."""
        if luck is not None:
            self.simulator.generator.manual_seed(luck)
        self._stands = -1  # nowhere, should the model fail
        stepped = self.simulator.step(action.to(self.simulator.device)[None])
        self._kept.keep(number, self.simulator.get_state())
        self._stands = number
        return stepped

    def _taken(self, here: Moment, action: Tensor, value: Any, luck: int | None) -> Moment:
        kept, number = action[0].cpu(), next(self._moments)
        observation, reward, terminated, _ = self._advance(number, kept, luck)
        cont, unknown = self.simulator.continuation, self.simulator.uncertainty
        gained = float(reward)
        return Moment(
            number,
            _row(observation),
            kept,
            value,
            gained,
            here.total + gained,
            None if cont is None else 1.0 - float(cont),
            bool(terminated),
            None if unknown is None else float(unknown),
            luck,
        )

    def _seed(self, given: int | None) -> int:
        return int(self._random.integers(SEEDS)) if given is None else given

    def _branch(self, number: int) -> Branch:
        if number not in self.branches:
            raise PlayError(f"there is no branch {number}; there are {', '.join(map(str, self.branches))}.")
        return self.branches[number]

    def _check_room(self) -> None:
        if len(self.branches) >= MOST_BRANCHES:
            raise PlayError(f"there are {MOST_BRANCHES} branches: remove one first.")


def _arrays(seen: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {key: value.detach().cpu().numpy() for key, value in seen.items()}


def _row(seen: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """What one row shows, on memory of its own."""
    return {key: value[0].copy() for key, value in _arrays(seen).items()}
