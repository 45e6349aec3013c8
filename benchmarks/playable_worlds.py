"""The games, how worlds of their films are fitted, and how an agent learns in one."""

from dataclasses import replace
from typing import Any

import torch

from benchmarks.dream_only import Plan
from benchmarks.pixel_worlds import MINATAR, PONG, WORLDS, PixelFit

FAMILIES = {"Genie": "Genie", "GenieReduxG": "GenieRedux-G"}
"""Names of the papers' models by those of the library's."""

ATARI_BREAKOUT = "ALE/Breakout-v5"

SMALL = replace(
    WORLDS[PONG],
    preset="tiny",
    options={"image_size": 32, "sticky_actions": 0.0},
    says="32x32 in colour, 4 frames an action, no sticky actions, up to 30 no-ops at reset",
)
"""Atari's games at the size of the tiny preset."""

GAMES = {
    ("Genie", MINATAR): replace(
        WORLDS[MINATAR],
        options={"from_pixels": True, "image_size": 10},
        says="its 10x10 board, one colour a plane; sticky actions as the game has them (0.1)",
    ),
    ("GenieReduxG", MINATAR): WORLDS[MINATAR],
    ("Genie", PONG): SMALL,
    ("Genie", ATARI_BREAKOUT): SMALL,
}
"""How each family is shown each game. GenieRedux-G's data are those of IRIS and DIAMOND."""

OUTCOMES: dict[str, Any] = {"outcome_blocks": 1}

FITS: dict[tuple[str, str], PixelFit] = {
    ("Genie", MINATAR): PixelFit(
        updates=5000, sequence_length=7, batch_size=24, tokenizer=0.3, changes={**OUTCOMES, "action_patch": 5}
    ),
    ("GenieReduxG", MINATAR): PixelFit(
        updates=4000,
        sequence_length=7,
        batch_size=32,
        tokenizer=0.4,
        changes={**OUTCOMES, "patch": 4, "vocabulary": 512},
    ),
    ("Genie", PONG): PixelFit(
        updates=4000, sequence_length=7, batch_size=12, tokenizer=0.4, changes={"patch": 4, "action_patch": 8}
    ),
    ("Genie", ATARI_BREAKOUT): PixelFit(
        updates=6000,
        sequence_length=7,
        batch_size=12,
        tokenizer=0.25,
        changes={"patch": 4, "action_patch": 8, "action_norm": True, "action_moving": 30.0},
    ),
}
"""Updates of at most 40 CPU minutes."""

LABELLED = 1000
"""Real steps whose actions tell which code stands for which."""

PLAYED, PLAY_STEPS = 64, 50
"""Images from which a game is played, and for how many steps."""

AGENT = Plan(rounds=50, look_every=30, dreams=128)
PPO_HORIZON = 14
PPO: dict[str, Any] = {
    "round_steps": 2048, "n_epochs": 4, "learning_rate": 1e-3, "gamma": 0.97, "ent_coef": 0.01,
    "policy_kwargs": {"net_arch": [256, 128], "activation_fn": torch.nn.ReLU},
}  # fmt: skip
