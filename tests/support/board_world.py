"""The true rules of a board game as a world model of two players."""

import torch
from torchrl.data import Binary, Bounded, Composite, OneHot

from wmcomponents.world_model import Prediction, WorldModel


class BoardWorld(WorldModel):
    """Knows the board exactly; has neither a value nor a policy."""

    def __init__(self, game):
        super().__init__(
            observation_spec=Composite(observation=Binary(shape=(game.rows, game.columns, 2), dtype=torch.bool)),
            action_spec=OneHot(game.moves),
            state_spec=Composite(
                board=Bounded(-1, 1, (game.cells,), dtype=torch.int8),
                to_play=Bounded(0, 1, (1,), dtype=torch.int64),
            ),
        )
        self.game = game

    def at(self, board):
        return {"board": board.clone(), "to_play": torch.zeros(*board.shape[:-1], 1, dtype=torch.int64)}

    def legal(self, state):
        return self.game.legal(state["board"])

    def observe(self, state, action, observation, is_init, noise):
        return {**self.at(self.game.board(observation["observation"])), "to_play": 1 - state["to_play"]}

    def imagine(self, state, action, noise):
        after, won, over = self.game.play(state["board"], action.long().argmax(-1))
        reward, cont = won.float().unsqueeze(-1), (~over).float().unsqueeze(-1)
        return Prediction({"board": after, "to_play": 1 - state["to_play"]}, reward, cont)
