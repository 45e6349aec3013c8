"""Perfect play of small games: the value of every position by looking at all that can follow."""

import torch
from torch import Tensor

from wmcomponents.data.board_games.rules import LineGame

Board = tuple[int, int]


class PerfectPlay:
    """Never plays a worse move than the best: wins as soon as it can, loses as late as it can.

    Positions are looked at once and remembered, by alpha-beta search: a position seen before costs a look into a table.
    Tic-tac-toe takes milliseconds, Connect Four on four by five a while; on six by seven only positions near the end
    are within reach.

    Args:
        game: the rules.
        seed: of the choice among equally good moves.

    Example:
        >>> from wmcomponents.data.board_games import tic_tac_toe
        >>> game = tic_tac_toe()
        >>> PerfectPlay(game).value(game.empty(torch.Size()))
        0
    """

    def __init__(self, game: LineGame, seed: int = 0) -> None:
        self.game = game
        self._generator = torch.Generator().manual_seed(seed)
        self._known: dict[Board, tuple[int, int]] = {}  # bounds of a position's value
        self._best: dict[Board, list[int]] = {}
        self._bits = 2 ** torch.arange(32)  # boards of any size are packed word by word
        self._lines = [sum(1 << int(cell) for cell in row.nonzero()) for row in game.lines]
        self._full = (1 << game.cells) - 1

    def __call__(self, board: Tensor, legal: Tensor) -> Tensor:
        """A best move on each board ``[*B, cells]``, int64 ``[*B]``; any, where none is ``legal``, ``[*B, moves]``."""
        flat = board.reshape(-1, self.game.cells).cpu()
        draws = torch.rand(len(flat), generator=self._generator).tolist()
        best = [self._best.get(stones) or self._look(stones) for stones in self._stones(flat)]
        moves = [found[int(drawn * len(found))] for found, drawn in zip(best, draws, strict=True)]
        return torch.tensor(moves, dtype=torch.int64, device=board.device).reshape(board.shape[:-1])

    def value(self, board: Tensor) -> int:
        """Of one board ``[cells]``: positive if the player who moves wins, the more the sooner; 0 is a draw."""
        ((own, other),) = self._stones(board.unsqueeze(0))
        limit = self.game.cells + 1
        return self._search(own, other, -limit, limit)

    def values(self, board: Tensor) -> dict[int, int]:
        """Of each legal move on one board ``[cells]``, for the player who moves."""
        ((own, other),) = self._stones(board.unsqueeze(0))
        return self._values(own, other)

    def _values(self, own: int, other: int) -> dict[int, int]:
        limit = self.game.cells + 1
        found = {}
        for move, stone in self._moves(own | other):
            over = self._result(own | stone, other)
            found[move] = -self._search(other, own | stone, -limit, limit) if over is None else over
        return found

    def _look(self, stones: Board) -> list[int]:
        """The best moves; the first where there is none."""
        values = self._values(*stones)
        best = max(values.values(), default=0)
        self._best[stones] = [move for move, value in values.items() if value == best] or [0]
        return self._best[stones]

    def _stones(self, boards: Tensor) -> list[Board]:
        """Own stones and the other's of boards ``[B, cells]``, a bit a cell."""
        own, other = (self._packed(boards == who) for who in (1, -1))
        return list(zip(own, other, strict=True))

    def _packed(self, stones: Tensor) -> list[int]:
        words = [(word * self._bits[: word.shape[1]]).sum(1).tolist() for word in stones.split(len(self._bits), 1)]
        return [sum(word << i * len(self._bits) for i, word in enumerate(row)) for row in zip(*words, strict=True)]

    def _moves(self, stones: int) -> list[tuple[int, int]]:
        """Moves, those in the middle first, with the cell they fill as a bit."""
        game, found = self.game, []
        for move in sorted(range(game.moves), key=lambda m: abs(2 * (m % game.columns) - game.columns + 1)):
            rows = range(game.rows - 1, -1, -1) if game.falls else range(1)
            cell = next(
                (1 << (row * game.columns + move) for row in rows if not stones >> (row * game.columns + move) & 1), 0
            )
            if cell:
                found.append((move, cell))
        return found

    def _result(self, own: int, other: int) -> int | None:
        """After a move of ``own``: what it is worth to its player if the game is over, else ``None``."""
        if any(own & line == line for line in self._lines):
            return self.game.cells + 1 - own.bit_count() - other.bit_count()
        return 0 if own | other == self._full else None

    def _search(self, own: int, other: int, low: int, high: int) -> int:
        least, most = self._known.get((own, other), (-self.game.cells, self.game.cells))
        if least >= high or least == most:
            return least
        if most <= low:
            return most
        best, floor = -self.game.cells - 1, low
        for _, stone in self._moves(own | other):
            value = self._result(own | stone, other)
            if value is None:
                value = -self._search(other, own | stone, -high, -floor)
            best, floor = max(best, value), max(floor, value)
            if floor >= high:
                break
        # What was cut off is known from one side only.
        self._known[own, other] = (best if best > low else least, best if best < high else most)
        return best
