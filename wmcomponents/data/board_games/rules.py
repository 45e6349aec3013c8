"""Games of lines on a board, in tensors: many boards at once, each as the player sees it who moves."""

import torch
from torch import Tensor


class LineGame:
    """Two players put stones; who first has so many in a line wins.

    A board is int8 ``[*B, rows * columns]``: 1 for the stones of the player who moves, -1 for the other's, 0 for empty.

    Args:
        rows: of the board.
        columns: of the board.
        line: stones that win, in a row, a column or a diagonal.
        falls: a move names a column, and the stone falls to its lowest empty cell; else a move names a cell.

    Raises:
        ValueError: if no line fits on the board.
    """

    def __init__(self, rows: int, columns: int, line: int, falls: bool) -> None:
        if not 2 <= line <= max(rows, columns) or min(rows, columns) < 1:
            raise ValueError(f"a line of {line} does not fit on a board of {rows}x{columns}.")
        self.rows, self.columns, self.line, self.falls = rows, columns, line, falls
        self.cells = rows * columns
        self.moves = columns if falls else self.cells
        lines = _lines(rows, columns, line)
        self.lines = torch.zeros(len(lines), self.cells)
        for index, cells in enumerate(lines):
            self.lines[index, cells] = 1.0

    def empty(self, batch_size: torch.Size, device: torch.device | None = None) -> Tensor:
        """Boards without stones, ``[*batch_size, cells]``."""
        return torch.zeros(*batch_size, self.cells, dtype=torch.int8, device=device)

    def legal(self, board: Tensor) -> Tensor:
        """Which moves there are on boards ``[*B, cells]``, bool ``[*B, moves]``."""
        return (board[..., : self.columns] if self.falls else board) == 0

    def play(self, board: Tensor, move: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Put a stone.

        Args:
            board: ``[*B, cells]``.
            move: a legal one, int64 ``[*B]``.

        Returns:
            The boards as the other player sees them, ``[*B, cells]``; whether this move won, and whether the game is
            over, bool ``[*B]`` each.
        """
        cell = move.unsqueeze(-1)
        if self.falls:
            stack = board.unflatten(-1, (self.rows, self.columns))
            column = stack.gather(-1, cell.unsqueeze(-2).expand(*board.shape[:-1], self.rows, 1)).squeeze(-1)
            height = (column == 0).sum(-1, keepdim=True) - 1  # rows count from the top
            cell = height.clamp(min=0) * self.columns + cell
        after = board.scatter(-1, cell, 1)
        won = self._has_line(after == 1)
        return -after, won, won | (after != 0).all(-1)

    def over(self, board: Tensor) -> Tensor:
        """Whether the game is over on boards ``[*B, cells]``, bool ``[*B]``: somebody won, or all is full."""
        return self._has_line(board == 1) | self._has_line(board == -1) | (board != 0).all(-1)

    def _has_line(self, stones: Tensor) -> Tensor:
        lines = self.lines.to(stones.device)
        return (stones.to(lines.dtype) @ lines.T >= self.line).any(-1)

    def planes(self, board: Tensor) -> Tensor:
        """Own stones and the other's as planes, bool ``[*B, rows, columns, 2]``."""
        return torch.stack([board == 1, board == -1], -1).unflatten(-2, (self.rows, self.columns))

    def board(self, planes: Tensor) -> Tensor:
        """The way back from :meth:`planes`."""
        own, other = planes.flatten(-3, -2).to(torch.int8).unbind(-1)
        return own - other


def tic_tac_toe() -> LineGame:
    """Three in a line on three by three."""
    return LineGame(3, 3, 3, falls=False)


def connect_four(rows: int = 6, columns: int = 7) -> LineGame:
    """Four in a line, stones fall; six rows of seven, or a smaller board."""
    return LineGame(rows, columns, 4, falls=True)


def _lines(rows: int, columns: int, line: int) -> list[list[int]]:
    found = []
    for row in range(rows):
        for column in range(columns):
            for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
                cells = [(row + i * down, column + i * right) for i in range(line)]
                if all(0 <= r < rows and 0 <= c < columns for r, c in cells):
                    found.append([r * columns + c for r, c in cells])
    return found
