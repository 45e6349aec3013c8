"""Tic-tac-toe and Connect Four: their rules, perfect play as referee, and search that never loses to it."""

import pytest
import torch
from torchrl.envs.utils import check_env_specs

from wmcomponents.agents.search import gumbel_search, muzero_search, no_value, uniform_prior
from wmcomponents.codecs import observation_spec
from wmcomponents.data import make_env
from wmcomponents.data.board_games import (
    BoardGameEnv,
    BoardGameModel,
    LineGame,
    PerfectPlay,
    PlayerPolicy,
    RandomPlay,
    connect_four,
    play_match,
    tic_tac_toe,
)


def after(game, moves):
    board, won, over = game.empty(torch.Size()), None, None
    for move in moves:
        board, won, over = game.play(board, torch.tensor(move))
    return board, bool(won), bool(over)


@pytest.mark.parametrize(
    ("game", "moves", "won", "over"),
    [
        (tic_tac_toe(), [0, 3, 1, 4], False, False),
        (tic_tac_toe(), [0, 3, 1, 4, 2], True, True),  # a row
        (tic_tac_toe(), [0, 1, 3, 2, 6], True, True),  # a column
        (tic_tac_toe(), [2, 0, 4, 1, 6], True, True),  # a diagonal
        (tic_tac_toe(), [0, 1, 2, 4, 3, 5, 7, 6, 8], False, True),  # full
        (connect_four(), [3, 0, 3, 0, 3, 0, 3], True, True),  # a column
        (connect_four(), [0, 0, 1, 1, 2, 2, 3], True, True),  # a row
        (connect_four(), [0, 1, 1, 2, 2, 3, 2, 3, 3, 6, 3], True, True),  # a diagonal
        (connect_four(), [0, 0, 1, 1, 2, 2], False, False),
    ],
)
def test_a_line_wins(game, moves, won, over):
    assert after(game, moves)[1:] == (won, over)


def test_stones_fall_and_a_full_column_is_closed():
    game = connect_four(rows=2, columns=4)
    board, _, _ = after(game, [1, 1])
    assert board.tolist() == [0, -1, 0, 0, 0, 1, 0, 0]
    assert game.legal(board).tolist() == [True, False, True, True]
    assert torch.equal(game.board(game.planes(board)), board)


def test_a_line_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="does not fit"):
        LineGame(2, 2, 3, falls=False)


@pytest.mark.parametrize("batch", [[], [3]])
@pytest.mark.parametrize("against", [False, True])
def test_the_environment_keeps_torchrls_contract(batch, against):
    game = tic_tac_toe()
    env = BoardGameEnv(game, PerfectPlay(game) if against else None, batch_size=batch, seed=0)
    check_env_specs(env)


def test_the_mask_is_a_rule_and_not_part_of_what_a_model_learns():
    env = make_env(BoardGameEnv(tic_tac_toe()))
    assert list(observation_spec(env).keys()) == ["observation"]
    assert "action_mask" in env.reset()


def test_rewards_are_those_of_the_player_who_moved():
    env = BoardGameEnv(tic_tac_toe())
    state = env.reset()
    rewards, ends = [], []
    for move in [0, 3, 1, 4, 2]:
        state["action"] = torch.eye(9)[move].bool()
        step = env.step(state)["next"]
        rewards.append(float(step["reward"]))
        ends.append(bool(step["terminated"]))
        state = step.select("observation", "action_mask")
    assert rewards == [0, 0, 0, 0, 1] and ends == [False] * 4 + [True]


def test_only_the_games_that_are_over_begin_anew():
    env = BoardGameEnv(tic_tac_toe(), batch_size=[2])
    state = env.reset()
    for first, second in zip([0, 3, 1, 4, 2], [0, 1, 2, 3, 4], strict=True):
        state["action"] = torch.eye(9)[[first, second]].bool()
        _, state = env.step_and_maybe_reset(state)
    stones = state["observation"].flatten(1).sum(1)
    assert stones.tolist() == [0, 5]


def test_a_move_that_is_not_legal_loses():
    env = BoardGameEnv(tic_tac_toe())
    state = env.reset()
    for _ in range(2):
        state["action"] = torch.eye(9)[4].bool()
        state = env.step(state)["next"].select("observation", "reward", "terminated")
    assert float(state["reward"]) == -1 and bool(state["terminated"])


def test_perfect_play_knows_the_value_of_tic_tac_toe_and_its_traps():
    game = tic_tac_toe()
    referee = PerfectPlay(game)
    assert referee.value(game.empty(torch.Size())) == 0
    # Two corners and the centre's edge: the only answer to a corner opening is the centre.
    board, _, _ = after(game, [0])
    assert {move for move, value in referee.values(board).items() if value == 0} == {4}
    board, _, _ = after(game, [0, 3, 1])
    assert int(referee(board, game.legal(board))) == 2


def test_perfect_play_agrees_with_minimax_on_a_small_connect_four():
    game = connect_four(rows=3, columns=4)

    def minimax(board):
        best = -2
        for move in game.legal(board).nonzero().flatten():
            following, won, over = game.play(board, move)
            best = max(best, 1 if won else 0 if over else -minimax(following))
            if best == 1:
                break
        return best

    referee = PerfectPlay(game)
    torch.manual_seed(0)
    for _ in range(4):
        board, over = game.empty(torch.Size()), False
        for _ in range(6):
            legal = game.legal(board).nonzero().flatten()
            following, _, over = game.play(board, legal[torch.randint(len(legal), ())])
            board = board if over else following
        value = referee.value(board)
        assert (value > 0) - (value < 0) == minimax(board)


def test_perfect_play_reads_boards_of_more_cells_than_a_word_has_bits():
    game = LineGame(9, 8, 8, falls=False)
    cells = torch.arange(72)
    board = (1 - 2 * ((cells % 8 + cells // 16) % 2)).to(torch.int8)  # no line of eight
    board[:7], board[7], board[70] = 1, 0, 0
    assert int(PerfectPlay(game)(board, game.legal(board))) == 7
    board[:7] *= -1
    assert int(PerfectPlay(game)(board, game.legal(board))) == 7


def test_a_move_of_perfect_play_is_drawn_among_the_best():
    game = tic_tac_toe()
    board, _, _ = game.play(game.empty(torch.Size([200])), torch.full((200,), 4))
    moves = PerfectPlay(game)(board, game.legal(board))
    assert set(moves.tolist()) == {0, 2, 6, 8}
    assert torch.equal(moves, PerfectPlay(game)(board, game.legal(board)))


def test_random_play_loses_to_perfect_play_and_perfect_play_draws_with_itself():
    game = tic_tac_toe()
    referee = PerfectPlay(game)
    lost = play_match(game, PlayerPolicy(game, RandomPlay(0)), referee, games=60, seed=0)
    assert lost.total.wins == 0 and lost.total.losses > 40
    assert lost.second.losses > lost.first.losses
    won = play_match(game, PlayerPolicy(game, referee), RandomPlay(0), games=20)
    assert won.total.losses == 0 and won.total.wins > 12
    assert play_match(game, PlayerPolicy(game, referee), PerfectPlay(game, 1), games=20).total == (0, 20, 0)


def test_each_side_moves_first_in_half_of_a_match():
    game, begun = tic_tac_toe(), []

    def illegal(board, legal):
        begun.append((board == 0).all(-1))
        return (board == 0).float().argmin(-1)  # on an empty board the first cell, then one that is taken

    match = play_match(game, PlayerPolicy(game, illegal), RandomPlay(0), games=6)
    assert match == ((0, 0, 3), (0, 0, 3))
    assert begun[0].all() and not begun[-1].any()
    with pytest.raises(ValueError, match="even"):
        play_match(game, PlayerPolicy(game, illegal), RandomPlay(0), games=5)


def test_the_rules_as_a_world_model_are_the_environment():
    game = tic_tac_toe()
    env, model = BoardGameEnv(game, batch_size=[16]), BoardGameModel(game)
    shown, random, over = env.reset(), RandomPlay(0), torch.zeros(16, dtype=torch.bool)
    state = model.at(game.board(shown["observation"]))
    for _ in range(9):
        assert torch.equal(model.legal(state)[~over], game.legal(state["board"])[~over])
        assert not model.legal(state)[over].any()
        move = random(state["board"], game.legal(state["board"]))
        shown["action"] = torch.nn.functional.one_hot(move, 9).bool()
        shown = env.step(shown)["next"]
        state, reward, cont = model.imagine(state, shown.get("action", torch.nn.functional.one_hot(move, 9)), None)
        board = game.board(shown["observation"])
        assert torch.equal(state["board"][~over], board[~over])
        assert torch.equal(reward[~over], shown["reward"][~over]) and not reward[over].any()
        over = over | shown["terminated"].squeeze(-1)
        assert torch.equal(cont.squeeze(-1), (~over).float())


@pytest.mark.parametrize("make", [muzero_search, gumbel_search])
def test_a_search_of_the_true_rules_finds_moves_that_perfect_play_approves_of(make):
    game = tic_tac_toe()
    world, referee = BoardGameModel(game), PerfectPlay(game)
    torch.manual_seed(0)
    board = game.empty(torch.Size([12]))
    for _ in range(4):
        board, won, _ = game.play(board, torch.multinomial(game.legal(board).float(), 1).squeeze(1))
    board = board[~won]
    parts = {"discount": 1.0, "prior": uniform_prior, "value": no_value, "legal": world.legal}
    search = make(world, simulations=200, max_depth=5, **parts)
    plan = search.plan(world.at(board), mask=game.legal(board))
    for row, move in zip(board, plan.edge.tolist(), strict=True):
        values = referee.values(row)
        assert torch.tensor(values[move]).sign() == torch.tensor(max(values.values())).sign()


def test_random_moves_open_games_that_nobody_chose_and_end_none():
    env = BoardGameEnv(tic_tac_toe(), random_moves=8, batch_size=[200], seed=0)
    shown = env.reset()
    stones = shown["observation"].sum((-3, -2, -1))
    assert set(stones.tolist()) >= set(range(7)) and stones.max() <= 8  # no game has been decided
    own, other = shown["observation"].sum((-3, -2)).unbind(-1)
    assert ((other - own == 0) | (other - own == 1)).all()  # they took turns
    again = BoardGameEnv(tic_tac_toe(), random_moves=8, batch_size=[200], seed=0).reset()
    assert (again["observation"] == shown["observation"]).all()


def test_random_moves_are_a_number_of_moves():
    with pytest.raises(ValueError, match="random_moves is the most random moves at a game's beginning, from 0 on"):
        BoardGameEnv(tic_tac_toe(), random_moves=-1)
