"""Does an environment keep its library's contract? For dreams of all kinds, and for any environment of these kinds."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from wmcomponents.testing.env_drivers.player import DreamProbe, Player, Trace, same
from wmcomponents.testing.report import Clause, Conformance, Failure, Skip, examine, raised
from wmcomponents.testing.sampling import reseed_globals, untouched_globals

SHORT = 20
"""Steps of the dreams that are compared with each other."""


def check_dream(env: Any, *, seed: int = 0, steps: int = 200) -> Conformance:
    """Hold an environment to its library's contract, clause by clause.

    Accepts a ``gymnasium.Env``, a ``gymnasium.vector.VectorEnv`` in any autoreset mode, a Stable-Baselines3 ``VecEnv``
    or a TorchRL ``EnvBase``: a dream of this library or any other environment. No library is imported that the check of
    this kind does not need. The environment is played and left in some later state; the global generators are put back.

    =========================== ========= ===========================================================================
    clause                      applies   what it asks
    =========================== ========= ===========================================================================
    dream/runs                  all       reset and step work with random actions
    spaces/observation          all       every observation is in its space or spec: structure, shape, dtype, bounds
    spaces/batched              Vector    batched spaces are ``batch_space`` of the single ones; the mode is stated
    reward/layout               all       a Python float; floats ``(n,)``; float32 ``(n,)`` in SB3; floats ``(..., 1)``
    flags/layout                all       Python bools; bools ``(n,)``; bools ``(..., 1)``
    flags/done-is-or            EnvBase   all three flags, and ``done == terminated | truncated``
    flags/none-at-reset         EnvBase   no row is done at reset, nor where a step begins
    values/finite               all       no NaN, no infinity
    values/no-alias             all       what was handed out is not overwritten by later steps
    step/no-mutation            EnvBase   a step leaves its input's entries as they are
    step/no-alias               EnvBase   ``next`` shares no memory with the input
    randomness/no-global-rng    all       reset and step do not move the global generators
    seeds/same-seed             all       the same seed gives the same dream, whatever the global seed
    seeds/other-seed            all       another seed gives another dream (skipped where nothing is random)
    time/not-frozen             all       observations change within an episode
    rows/independent            several   another action in one row changes no other row
    autoreset/next-step         Vector    NEXT_STEP: the step after an end only resets: reward 0, action ignored
    autoreset/same-step         Vector    SAME_STEP: ``final_obs`` with its mask exactly where rows ended
    autoreset/disabled          Vector    DISABLED: a masked reset leaves the other rows as they are
    sb3/infos                   SB3       a new dict for each row
    sb3/terminal-observation    SB3       the last observation of the episode, exactly at its end
    sb3/time-limit              SB3       ``TimeLimit.truncated`` is a bool at each end
    torchrl/state-carried       EnvBase   what is in ``state_spec`` is in ``observation_spec`` too
    torchrl/partial-reset       EnvBase   ``_reset`` restarts the rows of the mask only
    torchrl/raw-reward          EnvBase   ``_step`` itself writes the reward with its last dim (``step`` would hide it)
    library/check-env-specs     EnvBase   TorchRL's ``check_env_specs``
    library/gymnasium-check-env Env       Gymnasium's ``check_env``
    library/sb3-check-env       Env       Stable-Baselines3's ``check_env``, where that is installed
    =========================== ========= ===========================================================================

    Args:
        env: the environment.
        seed: of the dream and of the random actions.
        steps: length of the long look; take more than two horizons, so that ends are seen.

    Returns:
        The clauses that hold, and those that were skipped with the reason.

    Raises:
        ConformanceError: naming each broken clause, where it broke, what was expected, what came, and the remedy.
        TypeError: if ``env`` is of none of the four kinds.
    """
    player = player_of(env)
    clauses: tuple[Clause[DreamProbe], ...] = (*CLAUSES, *player.clauses())
    with untouched_globals():
        return examine(DreamProbe(player, seed, steps), f"{type(env).__name__} ({player.library})", clauses)


def player_of(env: Any) -> Player:
    """The player for an environment's library, found by its base class's name so that no other library is imported."""
    bases = {(base.__module__.split(".")[0], base.__name__) for base in type(env).__mro__}
    if ("torchrl", "EnvBase") in bases:
        from wmcomponents.testing.env_drivers.torchrl import TorchRLPlayer

        return TorchRLPlayer(env)
    if ("stable_baselines3", "VecEnv") in bases:
        from wmcomponents.testing.env_drivers.sb3 import SB3Player

        return SB3Player(env)
    if ("gymnasium", "VectorEnv") in bases:
        from wmcomponents.testing.env_drivers.gymnasium_vector import GymnasiumVectorPlayer

        return GymnasiumVectorPlayer(env)
    if ("gymnasium", "Env") in bases:
        from wmcomponents.testing.env_drivers.gymnasium_env import GymnasiumEnvPlayer

        return GymnasiumEnvPlayer(env)
    raise TypeError(
        f"check_dream checks a gymnasium Env or VectorEnv, an SB3 VecEnv or a torchrl EnvBase; got "
        f"{type(env).__name__}. For a world model itself: check_world_model."
    )


def runs(probe: DreamProbe) -> list[Failure]:
    """The environment can be played; if it cannot, what was noted until then says why."""
    try:
        _ = probe.trace
    except Exception as error:  # noqa: BLE001  whatever a foreign environment raises is a finding, and it is reported
        return [raised("dream/runs", error), *probe.player.findings]
    return []


def noted(probe: DreamProbe) -> list[Failure]:
    """What the player saw in every observation, reward and flag."""
    return probe.found("spaces/observation", "reward/layout", "flags/layout", "values/finite")


def no_alias(probe: DreamProbe) -> Iterator[Failure]:
    """What was handed out belongs to the caller."""
    _ = probe.trace
    for place in probe.player.overwritten():
        yield Failure(
            "values/no-alias",
            place,
            "what was handed out stays as it was",
            "a later step or reset changed it",
            "hand out copies or fresh arrays, never a buffer that is written again (tensor.numpy() is a view).",
        )


def no_global_rng(probe: DreamProbe) -> Iterator[Failure]:
    """All randomness is the environment's own."""
    _ = probe.trace
    if probe.moved:
        yield Failure(
            "randomness/no-global-rng",
            "reset and step",
            "the global generators stay where they are",
            f"moved: {', '.join(probe.moved)}",
            "draw from a generator of the environment's own, seeded by reset(seed=) or set_seed.",
        )


def same_seed(probe: DreamProbe) -> Iterator[Failure]:
    """Seed and actions decide everything."""
    actions = probe.player.actions(SHORT, probe.seed)
    traces = []
    for global_seed in (1, 2):
        reseed_globals(global_seed)
        traces.append(probe.play(actions, probe.seed))
    place = _parting(*traces)
    if place:
        yield Failure(
            "seeds/same-seed",
            place,
            "the same seed and actions give the same dream",
            "it differs",
            "seed every source of randomness at reset(seed=) or set_seed, and take none from the global generators.",
        )


def other_seed(probe: DreamProbe) -> Iterator[Failure]:
    """If an environment draws anything, the seed decides what."""
    actions = probe.player.actions(SHORT, probe.seed)
    seeded = [probe.play(actions, probe.seed + k) for k in range(3)]
    unseeded = [probe.play(actions, None) for _ in range(2)]
    if any(_parting(seeded[0], other) for other in seeded[1:]):
        return
    if not any(_parting(seeded[0], other) for other in unseeded):
        raise Skip("the dream is deterministic: episodes without a new seed repeat themselves")
    yield Failure(
        "seeds/other-seed",
        "reset",
        "another seed gives another dream",
        "three seeds give one dream, though episodes differ without a seed",
        "use the seed that is given, not a fixed one.",
    )


def not_frozen(probe: DreamProbe) -> Iterator[Failure]:
    """Observations change within an episode; a counter among them does not count."""
    before, moved = probe.trace.first, False
    counters = {key for key, rows in before.items() if rows.dtype.kind in "iu" and rows.size == probe.player.rows}
    watched = [key for key in before if key not in counters] or list(before)
    for step in probe.trace.steps:
        for key in watched:
            now, then = step.observation[key], before[key]
            moved |= not np.array_equal(now[~step.began], then[~step.began])
        before = step.observation
    if not moved:
        yield Failure(
            "time/not-frozen",
            "step",
            f"{', '.join(watched)} change somewhere in {probe.steps} steps within an episode",
            "every observation is the first of its episode",
            "return the observation of the new state; for TorchRL, carry the state in observation_spec.",
        )


def independent(probe: DreamProbe) -> Iterator[Failure]:
    """Another action in the last row changes nothing in the rows before it, as long as no episode ends."""
    if probe.player.rows < 2:
        raise Skip("the environment has one row")
    compared = 0
    for seed in range(probe.seed, probe.seed + 5):
        steps, leak = _leak(probe, seed)
        compared += steps
        if leak:
            yield Failure(
                "rows/independent",
                "step",
                "another action in the last row changes no other row",
                leak,
                "let no operation mix rows: no statistics of the batch, no draw whose count depends on another row.",
            )
            return
    if not compared:
        raise Skip("an episode ends at the first step")


def _leak(probe: DreamProbe, seed: int) -> tuple[int, str]:
    """How many steps two dreams could be compared that differ in the last row's actions, and what leaked out of it."""
    player = probe.player
    actions, others = player.actions(SHORT, seed), player.actions(SHORT, seed + 1)
    changed = [player.altered(mine, other, player.rows - 1) for mine, other in zip(actions, others, strict=True)]
    rest = slice(0, player.rows - 1)
    pairs = zip(probe.play(actions, seed).steps, probe.play(changed, seed).steps, strict=True)
    for number, (a, b) in enumerate(pairs):
        # An end draws a new start for its row, after which rows that share a generator draw other numbers.
        if (a.done | b.done).any():
            return number, ""
        if not all(_close(a.observation[key][rest], b.observation[key][rest]) for key in a.observation):
            return number, f"observations of other rows differ at step {number}"
        if not _close(a.reward[rest], b.reward[rest]):
            return number, f"rewards of other rows differ at step {number}"
    return SHORT, ""


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    if a.dtype.kind == "f":
        scale = max(1.0, float(np.abs(a[np.isfinite(a)]).max(initial=0.0)))
        return np.allclose(a, b, rtol=1e-5, atol=1e-5 * scale, equal_nan=True)
    return float(np.mean(a != b)) <= 1e-3


def _parting(a: Trace, b: Trace) -> str:
    """Where two dreams part; empty if they never do."""
    if not same(a.first, b.first):
        return "reset"
    for number, (mine, other) in enumerate(zip(a.steps, b.steps, strict=True)):
        if not same(mine.observation, other.observation):
            return f"the observation of step {number}"
        if not all(np.array_equal(x, y, equal_nan=True) for x, y in zip(mine[1:], other[1:], strict=True)):
            return f"reward or flags of step {number}"
    return ""


CLAUSES: tuple[Clause[DreamProbe], ...] = (
    Clause(("dream/runs",), runs, foundation=True),
    Clause(("spaces/observation", "reward/layout", "flags/layout", "values/finite"), noted),
    Clause(("values/no-alias",), no_alias),
    Clause(("randomness/no-global-rng",), no_global_rng),
    Clause(("seeds/same-seed",), same_seed),
    Clause(("seeds/other-seed",), other_seed),
    Clause(("time/not-frozen",), not_frozen),
    Clause(("rows/independent",), independent),
)
