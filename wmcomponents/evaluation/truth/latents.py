"""The section on the latent: is it used, has it collapsed, and do dreams stay where reality lies?"""

from typing import Any, cast

import torch
from tensordict import TensorDictBase
from torch import Tensor

from wmcomponents.dream.replay_starts import filtered_states
from wmcomponents.dream.starts import model_device
from wmcomponents.evaluation.truth.evidence import Evidence
from wmcomponents.evaluation.truth.layout import Section, band, rounded
from wmcomponents.functional.collapse_probes import channel_std, mean_abs_correlation, participation_ratio, rankme
from wmcomponents.nn.mode import EvalMode
from wmcomponents.world_model import State, WorldModel

MEMORY = 200_000_000
"""Bytes that filtered states may take; a model with large states is looked at along fewer sequences."""
WIDEST = 512
"""Channels of which correlations are taken at most."""
STILL = 0.01
"""A channel that varies by less than this share of the most varying one does not vary."""


def latent_section(
    model: WorldModel, evidence: Evidence, *, burn_in: int, horizon: int, seed: int, spread: dict[str, Any] | None
) -> Section:
    """What the filter's states hold along real sequences, and dreamt ones beside them.

    Args:
        model: any.
        evidence: real sequences.
        burn_in: real observations before a dream.
        horizon: steps of a dream.
        seed: of the noise and the bands.
        spread: of the dreams of one prefix, where it was measured.
    """
    length = burn_in - 1 + horizon
    few = evidence.few(max(4, min(64, MEMORY // max(1, length * model.state_bytes()))))
    device = model_device(model)
    sequences = model.relabelled(cast(TensorDictBase, few.sequences[:, :length]).to(device))
    generator = torch.Generator(device).manual_seed(seed)
    states = filtered_states(model, sequences, generator=generator)
    has_features = "features" in model.capabilities
    section: Section = {
        "sequences": len(few.episodes),
        "terms": _terms(model, sequences, seed),
        "parts": [_part(name, value, model) for name, value in states.items() if not _is_memory(name)],
        "features": None,
        "drift": None,
        "spread": spread,
    }
    if has_features:
        with EvalMode(model), torch.no_grad():
            seen = model.features(states).flatten(2).cpu()
            section["features"] = _probes(seen.flatten(0, 1), _observed(model, sequences))
            section["drift"] = _drift(model, states, sequences, seen, few, burn_in, horizon, generator, seed)
    return section


def _is_memory(name: str) -> bool:
    """Caches of a transformer and counters hold no latent of their own."""
    return "cache" in name or name in ("length", "seen", "since_reset", "member", "actions", "first")


def _terms(model: WorldModel, sequences: TensorDictBase, seed: int) -> dict[str, float | None]:
    """What the model's own objective says of data it was not trained on: losses, KL, entropies; empty without one."""
    if "objective" not in model.capabilities:
        return {}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            told = model.objective()(sequences.clone(False))
        except (RuntimeError, ValueError, KeyError):
            return {}  # an objective that needs what evidence does not hold, such as the values of a search
    return {str(key): rounded(float(value)) for key, value in told.items() if value.numel() == 1}


def _part(name: str, value: Tensor, model: WorldModel) -> dict[str, Any]:
    """How much of one part of the state is used: ``[B, T, ...]``."""
    size = int(torch.Size(value.shape[2:]).numel())
    flat = value.flatten(0, 1).flatten(1).cpu()
    facts: dict[str, Any] = {"name": name, "shape": list(value.shape[2:])}
    if not value.is_floating_point():
        return {**facts, "kind": "symbols", **_symbols(flat)}
    groups = value.shape[2:]
    if len(groups) == 2 and bool(((flat == 0) | (flat == 1)).all()):
        winners = flat.reshape(-1, *groups).argmax(-1)
        shares = torch.nn.functional.one_hot(winners, groups[1]).double().mean(0)
        used = torch.exp(torch.special.entr(shares).sum(-1))
        return {
            **facts,
            "kind": "classes",
            "of": groups[1],
            "used": rounded(float(used.mean())),
            "dead": int((used < 1.05).sum()),
            "groups": groups[0],
        }
    deviation = flat.double().std(0)
    still = int((deviation < STILL * deviation.max().clamp_min(1e-12)).sum())
    ratio = float(participation_ratio(flat.double())) if size <= 4096 else None
    return {**facts, "kind": "numbers", "of": size, "still": still, "participation_ratio": rounded(ratio)}


def _symbols(flat: Tensor) -> dict[str, Any]:
    """How many symbols are used, and as how many equally frequent ones they count (their perplexity)."""
    _, counts = flat.flatten().unique(return_counts=True)
    shares = counts.double() / counts.sum()
    return {"used": len(counts), "perplexity": rounded(float(torch.special.entr(shares).sum().exp()))}


def _observed(model: WorldModel, sequences: TensorDictBase) -> Tensor:
    """All observations as numbers side by side, ``[N, D]``; of more than some hundred every so many-th."""
    keys = [str(key) for key in model.observation_spec.keys()]
    flat = torch.cat([cast(Tensor, sequences[key]).flatten(0, 1).flatten(1).double().cpu() for key in keys], 1)
    return flat[:, :: max(1, flat.shape[1] // WIDEST)]


def _probes(features: Tensor, observed: Tensor) -> dict[str, Any]:
    """Probes of collapse of features ``[N, F]``; a world of one dimension is no collapse, hence the observations."""
    wide = features.double()
    deviation = wide.std(0)
    narrow = wide[:, :: max(1, wide.shape[1] // WIDEST)]
    return {
        "samples": len(wide),
        "channels": wide.shape[1],
        "rankme": rounded(float(rankme(wide))),
        "participation_ratio": rounded(float(participation_ratio(wide))),
        "std": rounded(float(channel_std(wide))),
        "still_channels": int((deviation < STILL * deviation.max().clamp_min(1e-12)).sum()),
        "correlation": rounded(float(mean_abs_correlation(narrow))) if narrow.shape[1] > 1 else None,
        "participation_ratio_of_observations": rounded(float(participation_ratio(observed))),
        "collapsed": bool(deviation.max() < 1e-6)
        or bool(participation_ratio(wide) < 1.05 and participation_ratio(observed) > 1.5),
    }


def _drift(
    model: WorldModel,
    states: State,
    sequences: TensorDictBase,
    seen: Tensor,
    few: Evidence,
    burn_in: int,
    horizon: int,
    generator: torch.Generator,
    seed: int,
) -> dict[str, Any]:
    """Cosine of dreamt and filtered features by horizon, both centred on the mean of the filtered ones."""
    centre = seen.flatten(0, 1).mean(0)
    source = model.noise_source("imagine")
    state = {key: value[:, burn_in - 1] for key, value in states.items()}
    alive, found = torch.ones(len(seen), dtype=torch.bool), []
    for k in range(1, horizon + 1):
        index = burn_in + k - 2
        if k > 1:
            ended = sequences["next", "done"][:, index - 1] | sequences["is_init"][:, index]
            alive = alive & ~ended.squeeze(-1).cpu()
        action = cast(Tensor, sequences["action"][:, index])
        state = model.imagine(state, action, source((len(seen),), generator, action.device)).state
        # The filter's state that has seen what this step imagines is the next index; the last one has none.
        if index + 1 >= seen.shape[1]:
            break
        follows = ~(sequences["next", "done"][:, index] | sequences["is_init"][:, index + 1]).squeeze(-1).cpu()
        dreamt = model.features(state).flatten(1).cpu() - centre
        cosine = torch.nn.functional.cosine_similarity(dreamt, seen[:, index + 1] - centre, dim=1).double()
        found.append(torch.where(alive & follows, cosine, float("nan")))
    if not found:
        return {"cosine": {"mean": [], "low": [], "high": []}, "above_0.9": 0}
    rows = torch.stack(found, 1)
    above = (rows.nanmean(0) >= 0.9).long().cumprod(0).sum()
    return {"cosine": band(rows, few.counts(seed)), "above_0.9": int(above)}
