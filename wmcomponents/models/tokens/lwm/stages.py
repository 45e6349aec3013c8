"""The stages in which LWM's context grows."""

from typing import NamedTuple


class ContextStage(NamedTuple):
    """One stage of training.

    Attributes:
        context: positions of a sequence.
        theta: base of the rotary positions.
        steps: updates.
        warmup: of them, while the rate grows from 0.
        rate: learning rate at its highest.
        last_rate: and at the end; constant where it is the same.
    """

    context: int
    theta: float
    steps: int
    warmup: int
    rate: float
    last_rate: float


K, M = 1024, 1e6

TEXT_STAGES: tuple[ContextStage, ...] = (
    ContextStage(32 * K, 1 * M, 1200, 100, 4e-5, 4e-5),
    ContextStage(128 * K, 10 * M, 3000, 200, 4e-5, 4e-5),
    ContextStage(256 * K, 10 * M, 3000, 200, 4e-5, 4e-5),
    ContextStage(512 * K, 25 * M, 720, 50, 4e-5, 4e-5),
    ContextStage(1024 * K, 50 * M, 450, 25, 4e-5, 4e-5),
)
"""LWM-Text, from LLaMA-2 on books; 4M words in a batch (paper, table of text stages)."""

VISION_STAGES: tuple[ContextStage, ...] = (
    ContextStage(1 * K, 50 * M, 45_000, 1000, 6e-4, 6e-5),
    ContextStage(8 * K, 50 * M, 14_000, 500, 6e-4, 6e-5),
    ContextStage(32 * K, 50 * M, 1200, 100, 8e-5, 8e-5),
    ContextStage(128 * K, 50 * M, 450, 50, 8e-5, 8e-5),
    ContextStage(1024 * K, 50 * M, 50, 5, 8e-5, 8e-5),
)
"""LWM, from LWM-Text on images and films; 8M tokens in a batch (paper, table of vision stages)."""
