"""Worlds that are played, learned from films: what Genie makes of unlabelled ones, GenieRedux-G of labelled ones.

Run it with ``python -m benchmarks.playable``; it writes ``docs/benchmarks/playable.json``, ``playable.md`` and the
films in ``docs/benchmarks/media``. Genie never sees an action while it is fitted; its codes are compared with the
actions that were taken afterwards. Then Stable-Baselines3's PPO learns in its dreams, its actions mapped to codes, and
plays the real game. Finished fits and agents are kept in ``runs/playable``; what was stopped goes on where it was.
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import torch
from tensordict import TensorDictBase
from torch import Tensor

from benchmarks.dream_only import THINGS, Plan, chance, learned
from benchmarks.fitting import HELD_OUT_STEPS, REAL_STEPS, data
from benchmarks.measuring import digits
from benchmarks.pixel_worlds import BURN_IN, DREAMS, HELD_OUT_SEQUENCES, KS, MINATAR, PixelFit, World, run_name
from benchmarks.pixels import check_settings, figures, film, held_out, train
from benchmarks.playable_page import report
from benchmarks.playable_worlds import AGENT, FAMILIES, FITS, GAMES, LABELLED, PLAY_STEPS, PLAYED, PPO, PPO_HORIZON
from wmcomponents.cli.console import quiet
from wmcomponents.data import action_spec, make_env
from wmcomponents.data.boards import PALETTE
from wmcomponents.dream import MappedActions, code_effects, code_table
from wmcomponents.dream.latent_actions import number_of_choices
from wmcomponents.evaluation import delta_psnr, horizon_errors, tokenizer_psnr
from wmcomponents.evaluation.metrics import entropy_bits, mutual_information
from wmcomponents.integrations.sb3_agent import SB3Agent
from wmcomponents.models import FilmDiffusionWorld, FilmTokenWorld
from wmcomponents.models.loading import load
from wmcomponents.nn.mode import EvalMode
from wmcomponents.training import seed_everything
from wmcomponents.world_model import State

AT = 4
"""Steps after the first frame at which delta-PSNR is read, as in the paper."""

FilmWorld = FilmTokenWorld | FilmDiffusionWorld[Any]

SHOWN_AT = (1, 10, 25, 50)
"""Steps at which what is played from one image is looked at."""


def fit(family: str, env_id: str, seed: int, folder: Path, how: PixelFit, minutes: float = math.inf) -> dict[str, Any]:
    """Fit one model and measure what is played, or return what an earlier run found; see ``benchmarks.pixels``.

    Args:
        family: of the model.
        env_id: of the game.
        seed: of data, fit and measurement.
        folder: what is kept.
        how: updates and sizes.
        minutes: of wall time after which the fit ends where it is.

    Raises:
        ValueError: if an earlier run had other settings.
    """
    name, world = run_name(family, env_id, seed), GAMES[family, env_id]
    home, result = folder / name, folder / f"{name}.json"
    folder = folder / f"data-{world.options['image_size']}"  # films of one size in each
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"env_options": world.options, "preset": world.preset, "real_steps": REAL_STEPS, **asdict(how)}
    check_settings(result if result.is_file() else home / "settings.json", settings)
    if result.is_file():
        return json.loads(result.read_text())
    if not (home / "fit.json").is_file():
        train(family, env_id, seed, folder, how, minutes, world, home)
    model = cast(FilmTokenWorld, load(home / "model"))
    made = {"family": family, "env": env_id, "seed": seed, **settings, **json.loads((home / "fit.json").read_text())}
    made |= {"config": how.config, "parameters": sum(p.numel() for p in model.parameters())}
    made |= measured(model, env_id, seed, folder, world)
    film(model, env_id, seed, folder, result.with_suffix(".webp"), world)
    result.write_text(json.dumps(made) + "\n")
    return made


def measured(model: FilmTokenWorld, env_id: str, seed: int, folder: Path, world: World) -> dict[str, Any]:
    """All figures of a fitted model, on episodes that it was not fitted to."""
    sequences = held_out(env_id, seed, folder, world, HELD_OUT_SEQUENCES)
    generator = torch.Generator().manual_seed(seed)
    found = horizon_errors(model, sequences, burn_in=BURN_IN, horizon=KS[-1], samples=DREAMS, generator=generator)
    whole = cast(TensorDictBase, sequences[~sequences["is_init"][:, 1 : model.window].flatten(1).any(1)])
    control = delta_psnr(model, sequences, at=AT, seed=seed)
    gain = control.taken - control.random
    made = {
        **figures(found),
        "tokenizer_psnr": digits(float(tokenizer_psnr(model, whole).mean()), 4),
        "delta_psnr": {
            "taken": digits(float(control.taken.mean()), 4),
            "random": digits(float(control.random.mean()), 4),
            "delta": digits(control.delta),
            "standard_error": digits(float(gain.std() / len(gain) ** 0.5)),
        },
        "played": played(model, env_id, seed, folder, world, PLAYED, [k for k in SHOWN_AT if k <= PLAY_STEPS]),
    }
    return {**made, "codes": codes(model, sequences, env_id, world)} if model.infers_actions else made


def codes(model: FilmTokenWorld, sequences: TensorDictBase, env_id: str, world: World) -> dict[str, Any]:
    """What codes say of the actions that were taken, and what each does.

    Returns:
        ``counts`` of actions by codes; ``bits`` of mutual information, ``by_chance`` what independent ones would show
        for so few steps, ``entropy`` of the actions; ``change`` under each code from the same frames, of 255 levels.
    """
    env = make_env(env_id, **world.options)
    counts = code_table(model, sequences, action_spec(env)).counts
    env.close()
    rows, columns = counts.shape
    effects = code_effects(model, begun(model, sequences[model.image_key][:PLAYED, 0]))
    return {
        "counts": counts.int().tolist(),
        "bits": digits(mutual_information(counts)),
        "by_chance": digits((rows - 1) * (columns - 1) / (2 * math.log(2) * float(counts.sum()))),
        "entropy": digits(entropy_bits(counts.sum(1))),
        "change": [digits(255 * float(change)) for change in effects.change.mean(0)],
    }


def begun(model: FilmWorld, frames: Tensor) -> State:
    """States behind one image each, ``[N, H, W, C]``."""
    rows = (len(frames),)
    first = torch.ones(*rows, 1, dtype=torch.bool)
    return model.observe(model.initial_state(rows), model.null_action(rows), {model.image_key: frames}, first, None)


@torch.no_grad()
def played(
    model: FilmWorld,
    env_id: str,
    seed: int,
    folder: Path,
    world: World,
    rows: int,
    at: Sequence[int],
) -> dict[str, Any]:
    """What is left of a game that is played from one unseen image each, under random actions.

    Args:
        model: a fitted one.
        env_id: of the game.
        seed: of the fit; images and actions have others that follow from it.
        folder: where the data are kept.
        world: how the game is shown.
        rows: images from which it is played.
        at: steps after which it is looked at.

    Returns:
        At each of ``at`` steps: ``nearest``, the PSNR of the frames with the nearest of the real frames that the model
        was fitted to, and ``motion``, the share of pixels that change by more than a tenth from the frame before; of
        MinAtar ``whole``, the share of frames that show one paddle and one ball. The last entry of each is that of
        real frames of the other episodes.
    """
    replay = data(env_id, seed + 1000, HELD_OUT_STEPS, 2, rows, folder, **world.options)
    replay.set_rng(torch.Generator().manual_seed(seed))
    real = cast(TensorDictBase, replay.sample())[model.image_key]
    seen = data(env_id, seed, REAL_STEPS, 1, REAL_STEPS, folder, **world.options)
    known = cast(TensorDictBase, seen.sample())[model.image_key][:, 0]
    source, draws = model.noise_source("imagine"), torch.Generator().manual_seed(seed)
    state = begun(model, real[:, 0])
    frames = [real[:, 0]]
    with EvalMode(model), torch.random.fork_rng():
        torch.manual_seed(seed)
        for _ in range(at[-1]):
            action = model.action_spec.rand(torch.Size([rows]))
            state = model.imagine_inplace(state, action, source((rows,), draws)).state
            frames.append(model.decode(state)[model.image_key].clone())
    pairs = [(frames[k - 1], frames[k]) for k in at] + [(real[:, 0], real[:, 1])]
    made: dict[str, Any] = {
        "at": list(at),
        "nearest": [digits(float(nearest(after, known).mean()), 4) for _, after in pairs],
        "motion": [digits(motion(before, after)) for before, after in pairs],
    }
    if env_id == MINATAR:
        made["whole"] = [digits(float(is_whole(after).float().mean())) for _, after in pairs]
    return made


def nearest(frames: Tensor, known: Tensor) -> Tensor:
    """PSNR of frames ``[N, H, W, C]`` with the nearest of known ones, at most 60 dB, ``[N]``."""
    one, other = (value.flatten(1).float() / 255.0 for value in (frames, known))
    mse = torch.cdist(one, other).amin(1).square() / one.shape[1]
    return -10.0 * mse.clamp_min(1e-6).log10()


def motion(before: Tensor, after: Tensor) -> float:
    """Share of pixels that change by more than a tenth of the range, in any channel."""
    return float(((after.int() - before.int()).abs().amax(-1) > 25).float().mean())


def is_whole(frames: Tensor) -> Tensor:
    """Whether frames ``[N, H, W, 3]`` of MinAtar's Breakout show one paddle and one ball, by the nearest colours."""
    colours = torch.cat([torch.zeros(1, 3), torch.tensor(PALETTE[: len(THINGS)]).float()])
    thing = (frames.unsqueeze(-2).float() - colours).square().sum(-1).argmin(-1).flatten(1)
    return ((thing == 1 + THINGS.index("paddle")).sum(1) == 1) & ((thing == 1 + THINGS.index("ball")).sum(1) == 1)


def agent(family: str, seed: int, folder: Path, plan: Plan) -> dict[str, Any]:
    """PPO that learned in the dreams of a fitted world of MinAtar's Breakout, in the real game.

    A Genie is played through the codes that stand for the actions of a few labelled steps.

    Args:
        family: of the world.
        seed: of the agent, its dreams and reality.
        folder: what is kept.
        plan: how much it dreams.
    """
    name, world = f"agent-{run_name(family, MINATAR, seed)}", GAMES[family, MINATAR]
    result = folder / f"{name}.json"
    if result.is_file():
        return json.loads(result.read_text())
    model, films = (
        load(folder / run_name(family, MINATAR, seed) / "model"),
        folder / f"data-{world.options['image_size']}",
    )
    facts: dict[str, Any] = {"family": family, "agent": "PPO", "seed": seed, "real_steps": REAL_STEPS}
    if model.infers_actions:
        env = make_env(MINATAR, **world.options)
        taken = action_spec(env)
        env.close()
        few = data(MINATAR, seed, REAL_STEPS, 1, LABELLED, films, **world.options)
        few.set_rng(torch.Generator().manual_seed(seed))
        table = code_table(model, cast(TensorDictBase, few.sample()), taken)
        facts |= {"labelled": LABELLED, "codes": table.codes.tolist()}
        if len(set(facts["codes"])) < number_of_choices(taken):
            facts["note"] = "two actions share a code"
        model = MappedActions(model, table.codes, taken)
    seed_everything(seed)
    made = SB3Agent("ppo", model, dreams=plan.dreams, horizon=PPO_HORIZON, seed=seed, **PPO)
    replay = data(MINATAR, seed, REAL_STEPS, BURN_IN, plan.dreams, films, **world.options)
    facts |= learned(made, model, replay, plan, seed, folder / f"{name}.state", world)
    result.write_text(json.dumps(facts) + "\n")
    (folder / f"{name}.state").unlink(missing_ok=True)
    return facts


def guessing(seed: int, folder: Path) -> dict[str, Any]:
    """What uniform actions earn."""
    result = folder / f"agent-random-{seed}.json"
    if not result.is_file():
        made = {"family": "", "agent": "random", "seed": seed, "real_steps": 0, **chance(seed)}
        result.write_text(json.dumps(made) + "\n")
    return json.loads(result.read_text())


def main() -> None:
    """Fit what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--atari", action="store_true", help="Genie on Atari's games, in place of MinAtar's Breakout")
    parser.add_argument("--updates", type=int, help="of both stages; each fit's own number if not given")
    parser.add_argument("--tokenizer", type=float, help="share of them that is the tokenizer's")
    parser.add_argument("--minutes", type=float, default=math.inf, help="wall time after which a fit ends where it is")
    parser.add_argument("--agents", action="store_true", help="then train PPO in the dreams of MinAtar's Breakout")
    parser.add_argument("--rounds", type=int, default=AGENT.rounds, help="of PPO")
    parser.add_argument("--runs", type=Path, default=Path("runs/playable"))
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    parser.add_argument("--no-table", action="store_true", help="write no page")
    parser.add_argument("--report", action="store_true", help="fit nothing; write the page of what was found so far")
    given = parser.parse_args()
    torch.set_num_threads(1)
    quiet()
    given.runs.mkdir(parents=True, exist_ok=True)
    wanted = [key for key in FITS if key[0] in given.families and (key[1] != MINATAR) == given.atari]
    for family, env_id in [] if given.report else wanted:
        for seed in given.seeds:
            changed = {"updates": given.updates, "tokenizer": given.tokenizer}
            how = replace(FITS[family, env_id], **{key: value for key, value in changed.items() if value is not None})
            made = fit(family, env_id, seed, given.runs, how, given.minutes)
            shown = {key: made[key] for key in ("tokenizer_psnr", "delta_psnr", "played")} | {
                "codes": made.get("codes")
            }
            print(f"{family} {env_id} seed {seed}: {made['cpu_seconds']} s {shown}", flush=True)
            if given.agents and env_id == MINATAR:
                plan = replace(AGENT, rounds=given.rounds)
                earned = agent(family, seed, given.runs, plan)["curve"][-1]["mean"]
                print(
                    f"PPO in {family}: {earned}; at random {guessing(seed, given.runs)['curve'][-1]['mean']}",
                    flush=True,
                )
    if not given.no_table:
        report(given.runs, given.out)


if __name__ == "__main__":
    main()
