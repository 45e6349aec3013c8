"""The rules of a board game as a world model: what a search of the true game dreams in."""

import torch
from torch import Tensor
from torchrl.data import Binary, Bounded, Composite, OneHot

from wmcomponents.data.board_games.rules import LineGame
from wmcomponents.world_model import Noise, Observation, Prediction, State, WorldModel


class BoardGameModel(WorldModel):
    """Knows the board exactly; has neither a value nor a policy, and no weights.

    A search of it is AlphaZero's: hand in value and prior (``no_value``, ``uniform_prior``), and ``legal``.

    Args:
        game: the rules.

    Example:
        >>> from wmcomponents.agents.search import lightzero_search, no_value, uniform_prior
        >>> from wmcomponents.data.board_games import BoardGameModel, tic_tac_toe
        >>> model = BoardGameModel(tic_tac_toe())
        >>> parts = {"discount": 1.0, "prior": uniform_prior, "value": no_value, "legal": model.legal}
        >>> lightzero_search(model, simulations=20, **parts).plan(model.initial_state((3,))).visits.shape
        torch.Size([3, 9])
    """

    def __init__(self, game: LineGame) -> None:
        board = Bounded(-1, 1, torch.Size([game.cells]), dtype=torch.int8)
        planes = Binary(shape=torch.Size((game.rows, game.columns, 2)), dtype=torch.bool)
        super().__init__(
            observation_spec=Composite(observation=planes),
            action_spec=OneHot(game.moves),
            state_spec=Composite(board=board, to_play=Bounded(0, 1, torch.Size([1]), dtype=torch.int64)),
        )
        self.game = game

    def at(self, board: Tensor) -> State:
        """States of boards ``[*B, cells]`` as the player sees them who moves."""
        return {"board": board.clone(), "to_play": torch.zeros_like(board[..., :1], dtype=torch.int64)}

    def legal(self, state: State) -> Tensor:
        """Which moves there are, bool ``[*B, moves]``; none when the game is over."""
        board = state["board"]
        return self.game.legal(board) & ~self.game.over(board).unsqueeze(-1)

    def observe(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """The board that is seen."""
        after = self.at(self.game.board(observation["observation"]))
        return {**after, "to_play": torch.where(is_init, 0, 1 - state["to_play"])}

    def imagine(self, state: State, action: Tensor, noise: Noise | None) -> Prediction:
        """The move; its reward is 1 where it wins. Nothing changes when the game is over."""
        board = state["board"]
        over = self.game.over(board)
        after, won, ends = self.game.play(board, action.long().argmax(-1))
        after = torch.where(over.unsqueeze(-1), -board, after)
        reward, cont = (won & ~over).float().unsqueeze(-1), (~(ends | over)).float().unsqueeze(-1)
        return Prediction({"board": after, "to_play": 1 - state["to_play"]}, reward, cont)
