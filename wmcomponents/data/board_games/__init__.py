"""Board games for two, as tensors and as TorchRL environments; matches, with perfect play as referee."""

from wmcomponents.data.board_games.env import BoardGameEnv as BoardGameEnv
from wmcomponents.data.board_games.env import Opponent as Opponent
from wmcomponents.data.board_games.match import Match as Match
from wmcomponents.data.board_games.match import PlayerPolicy as PlayerPolicy
from wmcomponents.data.board_games.match import RandomPlay as RandomPlay
from wmcomponents.data.board_games.match import Score as Score
from wmcomponents.data.board_games.match import play_match as play_match
from wmcomponents.data.board_games.perfect_play import PerfectPlay as PerfectPlay
from wmcomponents.data.board_games.rules import LineGame as LineGame
from wmcomponents.data.board_games.rules import connect_four as connect_four
from wmcomponents.data.board_games.rules import tic_tac_toe as tic_tac_toe
from wmcomponents.data.board_games.world import BoardGameModel as BoardGameModel
