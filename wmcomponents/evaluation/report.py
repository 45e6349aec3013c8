"""The images of a trained model: how far it can be trusted, and a film of reality beside the dream."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.envs import EnvBase

from wmcomponents.data import RandomPolicy
from wmcomponents.evaluation.figures import horizon_figure
from wmcomponents.evaluation.film_files import write_gif
from wmcomponents.evaluation.horizon import horizon_errors
from wmcomponents.evaluation.open_loop import compare, longest
from wmcomponents.evaluation.strips import filmstrip
from wmcomponents.evaluation.video import comparison_reels, side_by_side
from wmcomponents.rendering.renderers import make_renderer
from wmcomponents.world_model import WorldModel

TensorDictPolicy = Callable[[TensorDictBase], TensorDictBase]


def dream_report(
    model: WorldModel,
    env: EnvBase,
    policy: TensorDictPolicy,
    *,
    env_id: str | None = None,
    out: str | Path,
    seed: int = 0,
    steps: int = 1500,
    burn_in: int = 8,
    horizon: int = 50,
    film_steps: int = 100,
    samples: int = 16,
) -> dict[str, Path]:
    """Play fresh real episodes, and draw them beside the model's open-loop dreams.

    Args:
        model: a trained world model.
        env: the real environment, batch size ``[]``, with ``is_init``.
        policy: writes ``action`` into the TensorDict it is given; also what it carries, if it does.
        env_id: chooses renderer and labels.
        out: folder of the files.
        seed: of the environment and of the dreams.
        steps: real steps to play with the policy, and as many at random; the errors are of both.
        burn_in: real observations that the filter sees before each dream.
        horizon: longest k of the error curves.
        film_steps: steps of the film.
        samples: dreams behind each median and band.

    Returns:
        The files: ``figure`` (PNG); where the model decodes also ``film`` (GIF), and ``filmstrip`` (PNG) where the
        observation is an image.

    Raises:
        MissingExtraError: if a package of the extra ``viz`` is missing.
    """
    out = Path(out)
    env.set_seed(seed)
    played = play(env, policy, steps, model)
    # A good policy keeps to a small part of the world, where little varies and nothing ends. Random play shows more.
    random = play(env, RandomPolicy(env.action_spec, 0.3, torch.Generator().manual_seed(seed)), steps, model)
    generator = torch.Generator(next(iter(model.parameters())).device).manual_seed(seed)
    length = burn_in - 1 + horizon
    held_out = cast(TensorDictBase, torch.cat(cast(Any, [windows(part, length, 64) for part in (played, random)])))
    errors = horizon_errors(model, held_out, burn_in=burn_in, horizon=horizon, samples=4, generator=generator)
    sequences = windows(played, burn_in - 1 + film_steps, 256)
    chosen = cast(TensorDictBase, sequences[longest(sequences, burn_in=burn_in, horizon=film_steps)])
    overlay = compare(model, chosen, burn_in=burn_in, horizon=horizon, samples=samples, generator=generator)
    title = f"Dream against reality: {env_id}" if env_id else "Dream against reality"
    files = {"figure": horizon_figure(errors, overlay, out / "dream_vs_reality.png", env_id=env_id, title=title)}
    if "decode" not in model.capabilities:
        return files
    film = compare(model, chosen, burn_in=burn_in, horizon=film_steps, generator=generator)
    render = make_renderer(env_id, model.observation_spec)
    pages = side_by_side(comparison_reels(film, render), caption="same start, same actions")
    files["film"] = write_gif(pages, out / "dream_vs_reality.gif")
    if any(len(leaf.shape) == 3 for leaf in model.observation_spec.values()):
        files["filmstrip"] = filmstrip(film, render, out / "filmstrip.png", title=title)
    return files


def play(env: EnvBase, policy: TensorDictPolicy, steps: int, model: WorldModel) -> TensorDictBase:
    """Real steps in a row, over as many episodes as they take: ``[steps]`` with what a world model is compared with.

    Args:
        env: batch size ``[]``.
        policy: see :func:`dream_report`.
        steps: how many.
        model: says which observations to keep.
    """
    with torch.no_grad():
        rolled = env.rollout(steps, policy, break_when_any_done=False)
    shown = [str(key) for key in model.observation_spec.keys()]
    following = [*shown, "reward", "terminated", "truncated", "done"]
    kept = {key: rolled[key] for key in (*shown, "action", "is_init")}
    return TensorDict(
        {**kept, "next": TensorDict({key: rolled["next", key] for key in following}, rolled.batch_size)},
        rolled.batch_size,
    )


def windows(played: TensorDictBase, length: int, count: int) -> TensorDictBase:
    """Up to ``count`` evenly spaced windows of ``length`` steps: ``[T]`` to ``[B, length]``.

    Raises:
        ValueError: if nothing is that long.
    """
    total = played.batch_size[0]
    if total < length:
        raise ValueError(f"{total} steps hold no window of {length}; play more steps, or shorten the horizon.")
    starts = torch.linspace(0, total - length, min(count, total - length + 1)).long()
    return cast(TensorDictBase, played[starts[:, None] + torch.arange(length)])
