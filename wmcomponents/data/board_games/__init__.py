"""Board games for two, as tensors and as TorchRL environments, with perfect play as referee."""

from wmcomponents.data.board_games.env import BoardGameEnv as BoardGameEnv
from wmcomponents.data.board_games.env import Opponent as Opponent
from wmcomponents.data.board_games.perfect_play import PerfectPlay as PerfectPlay
from wmcomponents.data.board_games.rules import LineGame as LineGame
from wmcomponents.data.board_games.rules import connect_four as connect_four
from wmcomponents.data.board_games.rules import tic_tac_toe as tic_tac_toe
