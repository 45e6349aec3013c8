"""What was played, on disk: a film of a branch, or its steps as data to train on."""

import re
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from tensordict import TensorDict
from torchrl.data import Categorical, Composite, TensorSpec, Unbounded

from wmcomponents.data.folder import DESCRIPTION, DataWriter, open_saved
from wmcomponents.evaluation.film_files import write_video
from wmcomponents.evaluation.video import BLUE, Reel, side_by_side
from wmcomponents.play.errors import PlayError
from wmcomponents.play.reality import RealStep
from wmcomponents.play.session import Moment, Session
from wmcomponents.pretrained import spec_to_json

FPS = 12.0
"""Of films."""
MOST_FILMED = 500
"""Steps of a film; of a longer branch it shows the last ones."""

KINDS = {"gif": "image/gif", "webp": "image/webp", "mp4": "video/mp4"}


class Recording(NamedTuple):
    """What was written.

    Attributes:
        path: the file or folder.
        words: what is in it.
        kind: its MIME type; empty for a folder.
    """

    path: Path
    words: str
    kind: str = ""


def record(
    session: Session, out: Path, form: str, *, title: str = "", facts: dict[str, Any] | None = None
) -> Recording:
    """Write the branch that is played, from its start to its end.

    Args:
        session: the session.
        out: the folder; it is made. Films are numbered; data goes behind what is in ``dream/`` or ``reality/`` there.
        form: ``"gif"``, ``"webp"`` or ``"mp4"``, or ``"data"``, or ``"real data"``.
        title: in the corner of a film.
        facts: of the data: ``env``, ``env_options``.

    Raises:
        PlayError: if there is nothing to write, or the folder holds something else.
        MissingExtraError: if what writes films is not installed.
    """
    moments = session.branch.moments
    if len(moments) < 2:
        raise PlayError("nothing was played on this branch yet: take a step first.")
    if form in KINDS:
        return _film(session, out, form, title)
    if form == "data":
        if session.simulator.view != "decoded":
            raise PlayError("this model shows no observations, so that nothing can be trained on what it dreams.")
        return _data(session, out / "dream", [_dreamt(moment) for moment in moments], facts or {})
    real = _real_part(moments)
    if len(real) < 2:
        raise PlayError("reality did not go along on this branch: begin from the real environment.")
    return _data(session, out / "reality", real, facts or {})


def _film(session: Session, out: Path, form: str, title: str) -> Recording:
    moments = session.branch.moments[-MOST_FILMED - 1 :]
    ended = len(moments) - 1 if moments[-1].ended else None
    rewards = [moment.reward for moment in moments[1:]] if session.has_reward else None
    chances = [moment.chance for moment in moments[1:]]
    known = cast("list[float]", chances) if None not in chances else None
    reels = [Reel("dream", [session.picture(moment) for moment in moments], rewards, known, ended, BLUE)]
    real = [moment.real for moment in moments if moment.real is not None]
    if real:
        until = next((k for k, step in enumerate(real) if step.over), None)
        real = real if until is None else real[: until + 1]
        frames = [session.render(step.observation) for step in real]
        over = until if until is not None and real[until].terminated else None
        reels.insert(0, Reel("reality", frames, [step.reward for step in real[1:]], None, over))
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"play-{_free_number(out):04d}.{form}"
    write_video(side_by_side(reels, caption=title), path, fps=FPS)
    which = "the last " if len(session.branch.moments) > len(moments) else ""
    return Recording(path, f"{which}{len(moments) - 1} steps, {path.stat().st_size / 1000:.0f} kB", KINDS[form])


def _free_number(out: Path) -> int:
    taken = [int(found[1]) for file in out.iterdir() if (found := re.fullmatch(r"play-(\d{4,9})\.\w+", file.name))]
    return max(taken, default=0) + 1


class _Arrived(NamedTuple):
    """A step as data has it: what led to it, and what it showed."""

    observation: dict[str, np.ndarray]
    action: Any
    reward: float
    terminated: bool
    truncated: bool


def _dreamt(moment: Moment) -> _Arrived:
    return _Arrived(moment.observation, moment.action, moment.reward, moment.ended, False)


def _real_part(moments: list[Moment]) -> list[_Arrived]:
    """The real steps along a branch, up to the end of the real episode."""
    found: list[_Arrived] = []
    for moment in moments:
        real: RealStep | None = moment.real
        if real is None:
            break
        found.append(_Arrived(real.observation, moment.action, real.reward, real.terminated, real.truncated))
        if real.over:
            break
    return found


def _data(session: Session, folder: Path, line: list[_Arrived], facts: dict[str, Any]) -> Recording:
    """Append an episode; where it goes on it is cut (``truncated``)."""
    count = len(line) - 1

    def flags(values: list[bool]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.bool)[:, None]

    def shown(part: list[_Arrived]) -> dict[str, torch.Tensor]:
        return {key: torch.as_tensor(np.stack([each.observation[key] for each in part])) for key in line[0].observation}

    terminated = flags([each.terminated for each in line[1:]])
    truncated = flags([each.truncated for each in line[1:]])
    truncated[-1] |= ~terminated[-1]
    reward = torch.tensor([[each.reward] for each in line[1:]], dtype=torch.float32)
    done = terminated | truncated
    ends = {"reward": reward, "terminated": terminated, "truncated": truncated, "done": done}
    action, begins = torch.stack([each.action for each in line[1:]]), flags([k == 0 for k in range(count)])
    following = TensorDict({**shown(line[1:]), **ends}, [count])
    steps = TensorDict({**shown(line[:-1]), "is_init": begins, "action": action, "next": following}, [count])
    there = folder / DESCRIPTION
    try:
        before = open_saved(folder).content["steps"] if there.exists() else 0
        with DataWriter(folder, append=there.exists()) as writer:
            writer.append(steps)
            writer.save(
                transition_spec=spec_to_json(_spec(session)), **{"env": "", "env_options": {}, **facts}, policy="played"
            )
    except (ValueError, OSError) as error:
        raise PlayError(f"{folder} takes no such steps: {error}") from error
    return Recording(folder, f"{count} steps behind {before} in a data folder")


def _spec(session: Session) -> Composite:
    """Of one step, as ``data.transition_spec`` has it."""
    model, flag = session.model, Categorical(2, torch.Size([1]), dtype=torch.bool)
    shown = {str(key): cast(TensorSpec, leaf) for key, leaf in model.observation_spec.to("cpu").items()}
    ends = {name: flag.clone() for name in ("terminated", "truncated", "done")}
    following = Composite(
        {**{key: leaf.clone() for key, leaf in shown.items()}, "reward": Unbounded(torch.Size([1])), **ends}
    )
    now = {**shown, "is_init": flag.clone(), "action": model.action_spec.to("cpu"), "next": following}
    return Composite(now)
