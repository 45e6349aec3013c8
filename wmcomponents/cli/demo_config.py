"""Arguments of `wmc demo`, apart from what it does, so that help and refusals come at once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class DemoConfig:
    """What the demo does.

    Attributes:
        env: the real environment's id.
        seed: of everything.
        out: folder for the files; ``runs/demo-<env>-<seed>`` if not given.
        real_steps: real steps collected in all, spread evenly over the rounds, each of which begins an episode.
        rounds: rounds of collecting, fitting the model, training the agent. The first collects at random.
        updates: updates of the world model in each round.
        dream_steps: steps in each round of the agent that collects, which is trained on from round to round.
        final_dream_steps: steps of the agent that counts, trained from scratch in the last round's dream.
        dreams: dreams stepped side by side.
        horizon: steps after which a dream is cut (and its value bootstrapped).
        sequence_length: steps in a training sequence.
        batch_size: sequences in a training batch.
        lr: learning rate of the world model.
        family: of the world model (``models.MODELS``).
        preset: size of the world model (``models.presets``).
        changes: entries of the model's config that differ from the preset, as ``name=value``.
        view: what the agent sees: the decoded observation, or the model's latent features (needed for pixels);
            ``auto`` decides by the observation and by what the model can.
        episodes: episodes of each evaluation.
        max_episode_steps: cut real episodes here; the environment's own limit if not given.
        from_pixels: observe rendered images.
        threads: torch's threads; 1 is fastest for small models, 0 leaves torch's choice.
        device: of the world model: ``cpu``, ``cuda``, ``mps``, or ``auto`` for the best there is.
    """

    env: str = "CartPole-v1"
    seed: int = 0
    out: Path | None = None
    real_steps: int = 10_000
    rounds: int = 8
    updates: int = 300
    dream_steps: int = 40_960
    final_dream_steps: int = 163_840
    dreams: int = 32
    horizon: int = 64
    sequence_length: int = 48
    batch_size: int = 16
    lr: float = 1e-3
    family: str = "DreamerV3"
    preset: str = "tiny"
    changes: tuple[str, ...] = ()
    view: Literal["auto", "decoded", "latent"] = "auto"
    episodes: int = 20
    max_episode_steps: int | None = None
    from_pixels: bool = False
    threads: int = 1
    device: str = "cpu"
