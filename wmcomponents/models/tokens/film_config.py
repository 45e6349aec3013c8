"""Numbers of training that worlds of films have."""

from dataclasses import dataclass
from typing import Any, Literal

TINY_ACTIONS: dict[str, Any] = {"withheld": 1000, "rolled": 1, "pairs": True, "action_codebook": 0.0025}
"""How the tiny presets find codes of actions within minutes; see :class:`FilmLossConfig`."""


@dataclass(frozen=True)
class FilmLossConfig:
    """Numbers of the losses of worlds of films; pixels are in [0, 1].

    Attributes:
        tokenizer_steps: updates of the tokenizer before those of actions and dynamics, which learn together.
        mask_limit: least share of tokens that is masked; each film's is uniform between it and 1.
        worst: factor on the squared error of a frame's worst number in the tokenizer; the paper has none. Where few
            pixels are not the background a mean hardly sees them.
        action_worst: the same in the action model.
        action_moving: added to the weight 1 of each squared error of the action model where a number differs from the
            frame before by more than a twentieth of its range; the paper has none. What a player does is seen there.
        revival: first updates of either stage in which codes that a batch does not use become vectors of it that lie
            far from the used ones; the paper has none. Those of actions are from where they are no longer withheld.
        withheld: first updates of the second stage in which the action model foretells without codes. What the past
            tells alone needs none then, and codes are left what it does not tell: what was done. The paper has none,
            and trains far longer.
        rolled: most pixels, along either side, by which films are moved around a torus, each as a whole, before the
            action model's encoder sees them; its decoder sees them as they are, so that a code cannot stand for a
            place. The paper has none. Where places are few, "to the second column" tells as much as "to the left".
        pairs: whether the action model tells a code from two frames alone, the one before and the one behind, as codes
            of recorded steps are told; from all frames so far in the paper. Then a code means the same wherever in a
            film it stands.
        action_codebook: factor on the codebook term of the action model; 1 in the paper. Where few pixels change, it
            outweighs what codes bring.
        distance_weight: factor on the token-distance term of GenieRedux-G's later paper: the expected distance in the
            tokenizer's codebook (one minus the cosine) between what is foretold and what comes; 0 leaves it out.
    """

    tokenizer_steps: int = 300_000
    mask_limit: float = 0.5
    worst: float = 0.0
    action_worst: float = 0.0
    action_moving: float = 0.0
    revival: int = 0
    withheld: int = 0
    rolled: int = 0
    pairs: bool = False
    action_codebook: float = 1.0
    distance_weight: float = 0.0


@dataclass(frozen=True)
class FilmOptimizerConfig:
    """Numbers of AdamW, whose averaging rates are both 0.9.

    Attributes:
        tokenizer_rate: learning rate of the tokenizer.
        dynamics_rate: of the dynamics, and of the action model.
        weight_decay: of the weights of linear maps.
        max_norm: largest norm of each part's gradient.
        warmup: updates over which the rates grow from 0.
    """

    tokenizer_rate: float = 3e-4
    dynamics_rate: float = 3e-5
    weight_decay: float = 1e-4
    max_norm: float = 1.0
    warmup: int = 5000


@dataclass(frozen=True)
class FilmDecodingConfig:
    """How a frame is drawn.

    Attributes:
        rounds: in which a frame is drawn.
        temperature: divides the logits.
        schedule: how many tokens are masked behind each round: ``"cosine"``, or ``"warming"``, with a temperature that
            grows from round to round.
        reveal: which tokens are kept in a round: the ``"surest"``, or ``"random"`` ones.
        cached: whether keys and values of past frames stand in the state from step to step: dreams that do not outgrow
            the window are drawn faster, and states are far larger.
    """

    rounds: int = 25
    temperature: float = 1.0
    schedule: Literal["cosine", "warming"] = "cosine"
    reveal: Literal["surest", "random"] = "surest"
    cached: bool = False


@dataclass(frozen=True)
class FilmOutcomeConfig:
    """Sizes of the model of reward and end, which the papers' worlds do not have.

    Attributes:
        outcome_blocks: of its transformer; 0 for no such model: rewards are then the user's, and nothing ends.
        outcome_dim: size of a token.
        outcome_heads: of each attention, which share the size.
    """

    outcome_blocks: int = 0
    outcome_dim: int = 64
    outcome_heads: int = 4
