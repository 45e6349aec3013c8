"""Numbers of training that all worlds of tokens have."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TokenLossConfig:
    """When a tokenizer and a transformer over its tokens are trained, and what an image's error costs.

    Attributes:
        tokenizer_steps: updates of the tokenizer before those of the transformer.
        tokenizer_every: every how many updates after those the tokenizer is trained again; 0 for never, at least 2.
        tokenizer_frames: frames, or transitions, in an update of the tokenizer, drawn from the batch; 0 takes all.
        absolute: factor on the absolute error of a frame.
        squared: factor on the squared error of a frame.
        worst: factor on the squared error of a frame's worst number.
    """

    tokenizer_steps: int
    tokenizer_every: int
    tokenizer_frames: int
    absolute: float
    squared: float
    worst: float


@dataclass(frozen=True)
class FrameLossConfig(TokenLossConfig):
    """Numbers of the losses of a tokenizer of single frames, and of a transformer; images are in [-1, 1].

    Attributes:
        revival: first updates in which codes that the tokenizer's frames do not use are replaced now and then by
            vectors of these frames that lie far from the used ones. At high rates vectors move away from their codes
            fast, and a code that is not used does not follow.
    """

    tokenizer_steps: int = 4000
    tokenizer_every: int = 2
    tokenizer_frames: int = 256
    absolute: float = 1.0
    squared: float = 0.0
    worst: float = 0.0
    revival: int = 0


@dataclass(frozen=True)
class TokenOptimizerConfig:
    """Learning rates of a tokenizer and a transformer over its tokens.

    Attributes:
        tokenizer_rate: learning rate of the tokenizer.
        transformer_rate: learning rate of the transformer.
    """

    tokenizer_rate: float = 1e-4
    transformer_rate: float = 1e-4
