"""The papers' searches, put together from the parts."""

from typing import Any

from wmcomponents.agents.search.bounds import (
    PathBounds,
    RebuiltPrefixBounds,
    ReturnBounds,
    TreeBounds,
    UncorrectedPrefixBounds,
)
from wmcomponents.agents.search.candidates import SampledActions, density_prior
from wmcomponents.agents.search.decision import VisitCounts
from wmcomponents.agents.search.gumbel import ImprovedPolicy, SiblingCompleted, TreeCompleted, UnscaledCompleted
from wmcomponents.agents.search.halving import ListHalving, SequentialHalving
from wmcomponents.agents.search.puct import PUCT, MeanUnvisited, SiblingValues, ZeroUnvisited
from wmcomponents.agents.search.root_prior import DirichletNoise, LegalActions
from wmcomponents.agents.search.scales import ExactRange, SoftRange
from wmcomponents.agents.search.search import PHANTOM, UNCOUNTED, TreeSearch
from wmcomponents.agents.search.searched import SearchedModel
from wmcomponents.world_model import WorldModel


def muzero_search(
    model: WorldModel,
    *,
    simulations: int = 50,
    alpha: float = 0.3,
    fraction: float = 0.25,
    temperature: float = 1.0,
    max_depth: int | None = None,
    **parts: Any,
) -> TreeSearch:
    """MuZero's search as its pseudocode and muzero-general have it: pUCT, scaled by the range of the whole tree.

    Args:
        model: the world model.
        simulations: of each search: 50 for Atari, 800 for board games.
        alpha: of the root's Dirichlet noise.
        fraction: of the root's noise.
        temperature: of the final choice; 0 plays the most visited action.
        max_depth: of the tree.
        **parts: of :class:`SearchedModel`: discount, edges, prior, value, reward, legal.

    Reference: Schrittwieser et al., MuZero (2020), appendix B.
    """
    return TreeSearch(
        SearchedModel(model, **parts),
        simulations=simulations,
        selection=PUCT(ZeroUnvisited(PathBounds(), ExactRange())),
        choice=VisitCounts(temperature),
        root_prior=(LegalActions(), DirichletNoise(alpha, fraction)),
        root_count=UNCOUNTED,
        max_depth=max_depth,
    )


def mctx_muzero_search(
    model: WorldModel,
    *,
    simulations: int = 50,
    alpha: float = 0.3,
    fraction: float = 0.25,
    temperature: float = 1.0,
    max_depth: int | None = None,
    **parts: Any,
) -> TreeSearch:
    """MuZero's search as mctx has it: pUCT, scaled at each node by its siblings.

    Arguments are those of :func:`muzero_search`.
    """
    return TreeSearch(
        SearchedModel(model, **parts),
        simulations=simulations,
        selection=PUCT(SiblingValues()),
        choice=VisitCounts(temperature),
        root_prior=(DirichletNoise(alpha, fraction), LegalActions()),
        max_depth=max_depth,
    )


def lightzero_search(
    model: WorldModel,
    *,
    simulations: int = 50,
    alpha: float = 0.3,
    fraction: float = 0.25,
    temperature: float = 1.0,
    max_depth: int | None = None,
    **parts: Any,
) -> TreeSearch:
    """MuZero's search as LightZero has it: edges never taken have their siblings' mean, small ranges are not blown up.

    This is EfficientZero's search too, as the paper means it. Arguments are those of :func:`muzero_search`.
    """
    return _mean_search(model, PathBounds(), 0, simulations, alpha, fraction, temperature, max_depth, parts)


def lightzero_efficientzero_search(
    model: WorldModel,
    *,
    simulations: int = 50,
    alpha: float = 0.3,
    fraction: float = 0.25,
    temperature: float = 1.0,
    max_depth: int | None = None,
    horizon: int = 5,
    **parts: Any,
) -> TreeSearch:
    """EfficientZero's search as LightZero's tree of value prefixes has it, resets unheeded in the range.

    Arguments are those of :func:`muzero_search`; ``horizon`` is that of the value prefix.
    """
    bounds = UncorrectedPrefixBounds(horizon)
    return _mean_search(model, bounds, 0, simulations, alpha, fraction, temperature, max_depth, parts)


def efficientzero_search(
    model: WorldModel,
    *,
    simulations: int = 50,
    alpha: float = 0.3,
    fraction: float = 0.25,
    temperature: float = 1.0,
    max_depth: int | None = None,
    horizon: int = 5,
    **parts: Any,
) -> TreeSearch:
    """EfficientZero's search as its authors' tree has it: the range rebuilt after each simulation.

    All edges of a node are level at its first choice, so that the noise of ties decides. Arguments are those of
    :func:`muzero_search`; ``horizon`` is that of the value prefix.

    Reference: Ye et al., EfficientZero (2021).
    """
    bounds = RebuiltPrefixBounds(horizon)
    return _mean_search(model, bounds, 1, simulations, alpha, fraction, temperature, max_depth, parts)


def gumbel_search(
    model: WorldModel,
    *,
    simulations: int = 50,
    considered: int = 16,
    c_visit: float = 50.0,
    c_scale: float = 0.1,
    max_depth: int | None = None,
    **parts: Any,
) -> TreeSearch:
    """Gumbel MuZero's search: sequential halving at the root, the improved policy below.

    Args:
        model: the world model.
        simulations: of each search.
        considered: actions that are considered at the root.
        c_visit: visits that every edge is taken to have beside its own.
        c_scale: weight of the values.
        max_depth: of the tree.
        **parts: of :class:`SearchedModel`: discount, edges, prior, value, reward, legal.

    Reference: Danihelka et al., Policy improvement by planning with Gumbel (2022).
    """
    completed = SiblingCompleted(c_visit, c_scale)
    return TreeSearch(
        SearchedModel(model, **parts),
        simulations=simulations,
        selection=ImprovedPolicy(completed),
        root=SequentialHalving(simulations, completed, considered),
        max_depth=max_depth,
    )


def unscaled_gumbel_search(
    model: WorldModel,
    *,
    simulations: int = 50,
    considered: int = 16,
    weight: float = 1.0,
    prior_share: float = 1.0,
    max_depth: int | None = None,
    **parts: Any,
) -> TreeSearch:
    """Gumbel MuZero's search on values as they are, for few actions: scaled, the better of two is 1 and the other 0.

    Args:
        model: the world model.
        simulations: of each search.
        considered: actions that are considered at the root.
        weight: of the values, in their units, beside the prior's logits.
        prior_share: of the prior's logits in the improved policy's; below 1 it never grows certain of small differences
            (:class:`UnscaledCompleted`).
        max_depth: of the tree.
        **parts: of :class:`SearchedModel`: discount, edges, prior, value, reward, legal.
    """
    completed = UnscaledCompleted(weight, prior_share)
    return TreeSearch(
        SearchedModel(model, **parts),
        simulations=simulations,
        selection=ImprovedPolicy(completed),
        root=SequentialHalving(simulations, completed, considered),
        max_depth=max_depth,
    )


def efficientzero_v2_search(
    model: WorldModel,
    *,
    simulations: int = 16,
    considered: int = 4,
    c_visit: float = 50.0,
    c_scale: float = 0.1,
    max_depth: int | None = None,
    **parts: Any,
) -> TreeSearch:
    """EfficientZero V2's search: a list of actions that is halved, values scaled by the range of the whole tree.

    For actions that are numbers, ``edges=WidenedRootActions(model.action_spec)`` with 32 simulations and 16 considered.
    Arguments are those of :func:`gumbel_search`.

    Reference: Wang et al., EfficientZero V2 (2024).
    """
    completed = TreeCompleted(ReturnBounds(), SoftRange(), c_visit, c_scale)
    return TreeSearch(
        SearchedModel(model, **parts),
        simulations=simulations,
        selection=ImprovedPolicy(completed, uncounted=1),
        root=ListHalving(simulations, completed, considered),
        max_depth=max_depth,
    )


def sampled_search(
    model: WorldModel,
    *,
    simulations: int = 50,
    samples: int = 20,
    alpha: float = 0.3,
    fraction: float = 0.25,
    temperature: float = 1.0,
    max_depth: int | None = None,
    **parts: Any,
) -> TreeSearch:
    """Sampled MuZero's search, for actions that are numbers or very many: some drawn from the policy at every node.

    Arguments are those of :func:`muzero_search`; ``samples`` is K.

    Reference: Hubert et al., Learning and planning in complex action spaces (2021); LightZero.
    """
    edges = parts.pop("edges", None) or SampledActions(model.action_spec, samples, density_prior)
    parts["edges"] = edges
    return _mean_search(model, PathBounds(), 0, simulations, alpha, fraction, temperature, max_depth, parts)


def _mean_search(
    model: WorldModel,
    bounds: TreeBounds,
    uncounted: int,
    simulations: int,
    alpha: float,
    fraction: float,
    temperature: float,
    max_depth: int | None,
    parts: dict[str, Any],
) -> TreeSearch:
    return TreeSearch(
        SearchedModel(model, **parts),
        simulations=simulations,
        selection=PUCT(MeanUnvisited(bounds, SoftRange()), uncounted=uncounted),
        choice=VisitCounts(temperature),
        root_prior=(LegalActions(), DirichletNoise(alpha, fraction)),
        root_count=PHANTOM,
        max_depth=max_depth,
    )
