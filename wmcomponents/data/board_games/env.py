"""A board game as a TorchRL environment."""

from collections.abc import Callable
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Binary, Composite, OneHot, Unbounded
from torchrl.envs import EnvBase

from wmcomponents._arguments import whole
from wmcomponents.data.board_games.rules import LineGame

Opponent = Callable[[Tensor, Tensor], Tensor]
"""A move ``[*B]`` on boards ``[*B, cells]``, given which moves are legal, bool ``[*B, moves]``."""


class BoardGameEnv(EnvBase):
    """Two players on a board; alone, each in turn, or one of them against an opponent.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "observation" | [*B, rows, columns, 2] | bool: stones of the player who moves, and of the other | |
        | "action_mask" | [*B, moves] | bool: where one may put a stone | |
        | "action" | [*B, moves] | one-hot | |
        | "reward" | [*B, 1] | float: 1 for the player who moved if that won, -1 if it lost, else 0 | |

    Without an opponent the players take turns: each step is one move, and the reward is that of the player who made it,
    which is what a world model of two players learns from (``MuZeroConfig(..., players=2)``). With one, each step is a
    move and its answer. A move that is not legal loses.

    Args:
        game: the rules: ``tic_tac_toe()``, ``connect_four()``.
        opponent: answers every move; such as :class:`PerfectPlay`.
        opponent_begins: share of the games in which the opponent moves first.
        random_moves: at most so many random moves, a number drawn for each game, are made before it is shown: players
            who learn from each other meet positions that they would not choose.
        batch_size: games side by side.
        seed: of who begins, and of random moves.
        device: of the boards.

    Raises:
        ValueError: if ``opponent_begins`` is outside [0, 1], or ``random_moves`` is negative.
        TypeError: if ``random_moves`` is no whole number.

    Example:
        >>> from wmcomponents.data.board_games import BoardGameEnv, tic_tac_toe
        >>> env = BoardGameEnv(tic_tac_toe(), batch_size=[5])
        >>> env.rollout(9, break_when_any_done=False)["next", "observation"].shape
        torch.Size([5, 9, 3, 3, 2])
    """

    def __init__(
        self,
        game: LineGame,
        opponent: Opponent | None = None,
        *,
        opponent_begins: float = 0.5,
        random_moves: int = 0,
        batch_size: Any = (),
        seed: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if not 0 <= opponent_begins <= 1:
            raise ValueError(f"opponent_begins is a share of the games, in [0, 1]; got {opponent_begins}.")
        super().__init__(device=torch.device(device), batch_size=torch.Size(batch_size))
        self.game, self.opponent, self.opponent_begins = game, opponent, opponent_begins
        self.random_moves = whole(
            "random_moves", random_moves, 0, "the most random moves at a game's beginning, from 0 on"
        )
        shape = self.batch_size
        self.observation_spec = Composite(
            observation=Binary(shape=torch.Size((*shape, game.rows, game.columns, 2)), dtype=torch.bool),
            action_mask=Binary(shape=torch.Size((*shape, game.moves)), dtype=torch.bool),
            shape=shape,
            device=self.device,
        )
        self.action_spec = OneHot(
            game.moves, shape=torch.Size((*shape, game.moves)), dtype=torch.bool, device=self.device
        )
        flag = Binary(shape=torch.Size((*shape, 1)), dtype=torch.bool, device=self.device)
        flags = {name: flag.clone() for name in ("done", "terminated", "truncated")}
        self.done_spec = Composite(flags, shape=shape, device=self.device)
        self.reward_spec = Unbounded(torch.Size((*shape, 1)), device=self.device)
        self._generator = torch.Generator()
        self._set_seed(seed)

    def _reset(self, tensordict: TensorDictBase | None, **kwargs: Any) -> TensorDictBase:
        # Of every game: TorchRL keeps the rows that were not to be reset.
        board = self._opened(self.game.empty(self.batch_size, self.device))
        if self.opponent is not None:
            begins = torch.rand(self.batch_size, generator=self._generator).to(board.device) < self.opponent_begins
            after, _, _ = self.game.play(board, self.opponent(board, self.game.legal(board)))
            board = torch.where(begins.unsqueeze(-1), after, board)
        return self._shown(board, {})

    def _opened(self, board: Tensor) -> Tensor:
        """The boards after their random moves; none of these ends a game."""
        if self.random_moves == 0:
            return board
        count = torch.randint(self.random_moves + 1, self.batch_size, generator=self._generator).to(board.device)
        for made in range(self.random_moves):
            legal = self.game.legal(board)
            drawn = torch.rand(legal.shape, generator=self._generator).to(board.device)
            after, _, over = self.game.play(board, torch.where(legal, drawn, -1.0).argmax(-1))
            board = torch.where(((made < count) & ~over).unsqueeze(-1), after, board)
        return board

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        board = self.game.board(tensordict["observation"])
        move = tensordict["action"].long().argmax(-1)
        is_legal = self.game.legal(board).gather(-1, move.unsqueeze(-1)).squeeze(-1)
        after, won, over = self.game.play(board, move)
        after = torch.where(is_legal.unsqueeze(-1), after, -board)
        won, over = won & is_legal, over | ~is_legal
        reward = won.float() - (~is_legal).float()
        if self.opponent is not None:
            answered, lost, ends = self.game.play(after, self.opponent(after, self.game.legal(after)))
            goes_on = ~over
            after = torch.where(goes_on.unsqueeze(-1), answered, -after)
            reward, over = reward - (lost & goes_on).float(), over | ends
        end = over.unsqueeze(-1)
        flags = {"terminated": end, "done": end.clone(), "truncated": torch.zeros_like(end)}
        return self._shown(after, {"reward": reward.unsqueeze(-1), **flags})

    def _shown(self, board: Tensor, more: dict[str, Tensor]) -> TensorDictBase:
        legal = self.game.legal(board)
        # A board that is full is shown once more at its end; TorchRL draws no action from a mask that is all false.
        mask = legal | ~legal.any(-1, keepdim=True)
        return TensorDict(
            {"observation": self.game.planes(board), "action_mask": mask, **more}, self.batch_size, device=self.device
        )

    def _set_seed(self, seed: int | None) -> None:
        self._generator.seed() if seed is None else self._generator.manual_seed(seed)
