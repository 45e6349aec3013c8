"""Matches on a board: many games side by side, each side moving first in half of them."""

from typing import Any, NamedTuple

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.envs.utils import ExplorationType, set_exploration_type

from wmcomponents._arguments import whole
from wmcomponents.data.acting import TensorDictPolicy
from wmcomponents.data.board_games.env import BoardGameEnv, Opponent
from wmcomponents.data.board_games.rules import LineGame
from wmcomponents.data.environments import make_env
from wmcomponents.data.returns import evaluate_policy


class Score(NamedTuple):
    """How some games ended for a player.

    Attributes:
        wins: games that it won.
        draws: games that nobody won.
        losses: games that it lost, by an illegal move too.
    """

    wins: int
    draws: int
    losses: int


class Match(NamedTuple):
    """How a match ended for a player.

    Attributes:
        first: of the games in which it moved first.
        second: of the others.
    """

    first: Score
    second: Score

    @property
    def total(self) -> Score:
        """Of all games."""
        return Score(*(mine + also for mine, also in zip(self.first, self.second, strict=True)))


def play_match(
    game: LineGame, policy: TensorDictPolicy, opponent: Opponent, games: int = 100, *, seed: int | None = None
) -> Match:
    """Let a policy play against an opponent, without exploration.

    All games of one side are played at once, so that a policy that searches searches them all together.

    Args:
        game: the rules.
        policy: writes ``action`` into a TensorDict with ``observation`` and ``action_mask`` as :class:`BoardGameEnv`
            shows them, and ``is_init``; what it carries from move to move comes from its
            ``make_tensordict_primer()``. A function of boards becomes one as :class:`PlayerPolicy`.
        opponent: answers its moves, such as :class:`PerfectPlay`.
        games: how many, an even number.
        seed: of the environment.

    Raises:
        ValueError: for a number of games that is not even, or below 2.

    Example:
        >>> from wmcomponents.data.board_games import PerfectPlay, PlayerPolicy, play_match, tic_tac_toe
        >>> game = tic_tac_toe()
        >>> play_match(game, PlayerPolicy(game, PerfectPlay(game)), PerfectPlay(game, seed=1), games=4).total
        Score(wins=0, draws=4, losses=0)
    """
    half, odd = divmod(whole("games", games, 2, "an even number of games, at least 2"), 2)
    if odd:
        raise ValueError(f"each side moves first in half of the games: games is an even number; got {games}.")
    return Match(*(_played(game, policy, opponent, half, begins, seed) for begins in (0.0, 1.0)))


def _played(
    game: LineGame, policy: Any, opponent: Opponent, games: int, opponent_begins: float, seed: int | None
) -> Score:
    env = make_env(BoardGameEnv(game, opponent, opponent_begins=opponent_begins, batch_size=[games]))
    if hasattr(policy, "make_tensordict_primer"):
        env.append_transform(policy.make_tensordict_primer())
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        found = evaluate_policy(env, policy, games, seed).returns
    return Score(sum(end > 0 for end in found), sum(end == 0 for end in found), sum(end < 0 for end in found))


class PlayerPolicy:
    """A player of boards as a TensorDict policy.

    Args:
        game: the rules.
        player: a move ``[*B]`` on boards ``[*B, cells]``, given which moves are legal.
    """

    def __init__(self, game: LineGame, player: Opponent) -> None:
        self.game, self.player = game, player

    def __call__(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Reads ``observation``, writes ``action``, one-hot ``[*B, moves]``."""
        board = self.game.board(tensordict["observation"])
        move = self.player(board, self.game.legal(board))
        return tensordict.set("action", torch.nn.functional.one_hot(move, self.game.moves).bool())


class RandomPlay:
    """Any legal move.

    Args:
        seed: of the moves; fresh entropy if not given.
    """

    def __init__(self, seed: int | None = None) -> None:
        self._generator = torch.Generator()
        self._generator.seed() if seed is None else self._generator.manual_seed(seed)

    def __call__(self, board: Tensor, legal: Tensor) -> Tensor:
        """A move on each board, int64 ``[*B]``; any, where none is ``legal``, ``[*B, moves]``."""
        order = torch.rand(legal.shape, generator=self._generator).to(legal.device)
        return torch.where(legal, order, -1.0).argmax(-1)
