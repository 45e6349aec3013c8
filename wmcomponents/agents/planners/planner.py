"""A planner: acts by searching, at every step, for the best sequence of actions in a world model."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, cast

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from tensordict.nn.probabilistic import InteractionType, interaction_type
from torch import Tensor
from torchrl.data import Binary, Composite, TensorSpec, Unbounded
from torchrl.envs import TensorDictPrimer

from wmcomponents._arguments import seed_or_none, whole
from wmcomponents.agents.planners.budget import Budget, Iterations
from wmcomponents.agents.planners.choice import Choice, MeanSequence
from wmcomponents.agents.planners.imagined import followed, imagined_value, repeated
from wmcomponents.agents.planners.objectives import Objective
from wmcomponents.agents.planners.plan import Plan, Stage
from wmcomponents.agents.planners.policy_candidates import SequencePolicy
from wmcomponents.agents.planners.sampling import SequenceSearch
from wmcomponents.agents.planners.warm_start import ColdStart, WarmStart
from wmcomponents.codecs import ActionVector, DiscreteCodec
from wmcomponents.codecs.observation import VectorCodec
from wmcomponents.nn.mode import EvalMode
from wmcomponents.training.loop import DivergedError
from wmcomponents.world_model import Needs, Noise, State, WorldModel, items_of

PLANNED, KEPT, ELITES = "planned", "plan_kept", "plan_elites"
"""Beside the state: whether there is a plan to go on from, what it kept, and its elites."""


class IterationNoise(NamedTuple):
    """What is random in one iteration.

    Attributes:
        search: the candidates', ``[*B, N, ...]``.
        dream: the model's z, ``[H, *B, N, P, ...]`` with P particles; ``None`` for modes.
        objective: the objective's, ``[*B, N, P, ...]``.
    """

    search: Noise
    dream: Noise | None
    objective: Noise


class PlanNoise(NamedTuple):
    """What is random in a whole plan.

    Attributes:
        policy: the proposing policy's, ``[H, *B, N, ...]``.
        policy_dream: the model's z along its proposals, ``[H, *B, N, ...]``; ``None`` for modes.
        choice: that of the choice, ``[*B, ...]``.
        iterations: gives the noise of an iteration by its index.
    """

    policy: Noise
    policy_dream: Noise | None
    choice: Noise
    iterations: Callable[[int], IterationNoise]


class Planned(NamedTuple):
    """What a planner found.

    Attributes:
        action: the first action, ``[*B, *shape]`` as ``action_spec`` says.
        actions: the whole sequence, ``[*B, H, *shape]``; without what an explorer adds.
        carried: what the next plan begins with.
        plan: the search's last state.
    """

    action: Tensor
    actions: Tensor
    carried: dict[str, Tensor]
    plan: Plan


def iterate(
    planner: "Planner", plan: Plan, state: State, noise: IterationNoise, stage: Stage, extras: dict[str, Any]
) -> Plan:
    """One iteration of a search: all candidates of all rows through the whole horizon, then the fit.

    Plain tensors, fixed length, no branch on data: compiles as one graph; see :func:`compiled_iteration`.

    Args:
        planner: its parts.
        plan: before the iteration.
        state: one for each row, ``[*B, ...]``.
        noise: of the iteration.
        stage: where it stands.
        extras: ``given`` candidates, the ``mask`` of actions, and ``read``, the objective's entries.
    """

    def score(candidates: Tensor) -> Tensor:
        return planner.score(candidates, state, noise, extras["read"])

    return planner.search.improve(plan, score, noise.search, stage, extras["given"], extras["mask"])


def compiled_iteration(**options: Any) -> Callable[..., Plan]:
    """:func:`iterate` compiled: the imagined horizon of all candidates as one graph.

    Args:
        **options: of ``torch.compile``; ``dynamic=False`` unless given.
    """
    return torch.compile(iterate, **{"dynamic": False, **options})


class Planner(TensorDictModuleBase):
    """Acts by planning, at every step anew, in any world model.

    As a TensorDict module it is a policy: it reads the model's state keys ``[*B, ...]``, what its objective reads
    beside them and, where they are there, ``is_init`` and what it carries; it writes ``action`` and what it carries.
    Behind the filter (``LatentPolicy``) it acts in a real environment, whose transforms then include its
    :meth:`make_tensordict_primer` (and ``InitTracker``): the plan goes on from step to step and begins anew with each
    episode. An explorer's noise is added where TorchRL's ``set_exploration_type`` is ``RANDOM``.

    Rows are planned for side by side, each with candidates of its own. Given a generator, a plan can be repeated; given
    :meth:`draw`'s noise it is a function of it.

    Args:
        model: the world model; whatever mode it is in, it is used in eval mode.
        search: how sequences are searched for.
        objective: what a sequence is worth.
        horizon: H, steps of a sequence.
        budget: iterations, as a number or a :class:`Budget`.
        choice: which sequence is executed; the mean if not given.
        warm_start: where a plan begins; always in the middle if not given.
        policy: proposes candidates, which stay in all iterations.
        proposals: how many it proposes.
        particles: P, dreams of each candidate, over which its value is the mean.
        noise: of the dreams: ``"sample"``, or ``"mode"``.
        nan_value: what candidates are worth whose value is not a number, as papers' codes choose it; without it such a
            value is an error, and where no candidate of a row has one it always is.
        action_mask: 1 for the entries of the action vector that a row has, ``[*B, A]``, from states ``[*B, ...]``.
        center: the action vector in the middle of all, where a plan without a past begins, ``[A]``; zeros, or even
            probabilities, if not given.
        seed: of the policy's draws; fresh entropy if not given.
        scan: replaces :func:`iterate`, for example by the result of :func:`compiled_iteration`.

    Attributes:
        needs: what it asks of its world model.
        dreamed_steps: steps dreamt in all plans: of every candidate, particle and proposal.

    Raises:
        CapabilityError: if the model lacks what the objective reads.
        ValueError: if the actions have no bounds, the search follows gradients through choices, or names clash.

    Example:
        >>> from torchrl.data import Bounded, Composite, Unbounded
        >>> from wmcomponents.agents.planners import planet_cem
        >>> from wmcomponents.testing.toy import ToyWorldModel
        >>> model = ToyWorldModel(Composite(observation=Unbounded(3)), Bounded(-1, 1, (2,)))
        >>> planner = planet_cem(model, horizon=3, candidates=20, elites=4, budget=2)
        >>> planner.plan(model.initial_state((5,)), generator=torch.Generator()).actions.shape
        torch.Size([5, 3, 2])
    """

    def __init__(
        self,
        model: WorldModel,
        search: SequenceSearch,
        objective: Objective,
        *,
        horizon: int,
        budget: int | Budget,
        choice: Choice | None = None,
        warm_start: WarmStart | None = None,
        policy: SequencePolicy | None = None,
        proposals: int = 0,
        particles: int = 1,
        noise: Literal["sample", "mode"] = "sample",
        nan_value: float | None = None,
        action_mask: Callable[[State], Tensor | None] | None = None,
        center: Tensor | None = None,
        seed: int | None = None,
        scan: Callable[..., Plan] = iterate,
    ) -> None:
        super().__init__()
        self.horizon = whole("horizon", horizon, 1, "a number of planned steps, at least 1")
        self.particles = whole("particles", particles, 1, "a number of dreams of each candidate, at least 1")
        self.proposals = whole("proposals", proposals, 0, "a number of candidates, at least 0")
        if (policy is None) != (self.proposals == 0):
            raise ValueError(f"a policy proposes some candidates; got {policy!r} and proposals={proposals}.")
        if noise not in ("sample", "mode"):
            raise ValueError(f"noise is 'sample' or 'mode'; got {noise!r}.")
        objective.check(model)
        self.model, self.search, self.objective, self.scan = model, search, objective, scan
        self.action_vector = vector_of_actions(model.action_spec, search)
        self.budget = budget if isinstance(budget, Budget) else Iterations(budget)
        self.choice, self.warm_start = choice or MeanSequence(), warm_start or ColdStart()
        self.policy, self.nan_value, self.action_mask = policy, nan_value, action_mask
        source = model.noise_source("imagine")
        self._source = None if noise == "mode" or source.empty else source
        self._states = [str(key) for key in model.state_spec.keys()]
        self._carries = self.warm_start.carries or search.carries_elites
        carried = list(self.carried_spec().keys())
        clash = sorted({*carried} & {*self._states, *objective.keys})
        if clash:
            raise ValueError(f"the planner keeps {clash} beside the model's entries: rename these of its states.")
        read = [key for key in objective.keys if key not in self._states]
        self.in_keys = [*self._states, *read, "is_init", *carried]  # pyright: ignore[reportIncompatibleVariableOverride]
        self.out_keys = ["action", *carried]  # pyright: ignore[reportIncompatibleVariableOverride]
        # Which actions it can take does not fit into one word: `vector_of_actions` has looked.
        self.needs = Needs(objective.needs, "numbers" if search.needs_gradient else "any")
        self.dreamed_steps = 0
        self._mode = EvalMode(model)
        self._seed, self._generator = seed_or_none(seed), cast("torch.Generator | None", None)
        self.register_buffer("center", self._center(center), persistent=False)

    # -- planning ------------------------------------------------------------------------------------------------------

    def draw(self, batch_size: tuple[int, ...], generator: torch.Generator) -> PlanNoise:
        """The noise of a plan; that of an iteration when it is asked for, one after the other.

        Args:
            batch_size: of the rows.
            generator: the source.
        """
        size, horizon = self.action_vector.size, self.horizon
        choice = self.choice.draw(batch_size, self.search.elites, size, generator)
        policy: Noise = {}
        policy_dream = None
        if self.policy is not None:
            lead = (*batch_size, self.proposals)
            policy = self.policy.draw((horizon, *lead), generator)
            policy_dream = None if self._source is None else self._source((horizon, *lead), generator)

        def of_iteration(iteration: int) -> IterationNoise:
            stage = self._stage(iteration)
            search = self.search.draw(batch_size, horizon, size, iteration, stage, self.proposals, generator)
            lead = (*batch_size, self.search.count(iteration, stage, self.proposals), self.particles)
            dream = None if self._source is None else self._source((horizon, *lead), generator)
            return IterationNoise(search, dream, self.objective.draw(lead, generator))

        return PlanNoise(policy, policy_dream, choice, of_iteration)

    def plan(
        self,
        state: State | TensorDictBase,
        *,
        generator: torch.Generator | None = None,
        noise: PlanNoise | None = None,
        carried: Mapping[str, Tensor] | None = None,
        given: Mapping[str, Tensor] | None = None,
        explore: bool = False,
    ) -> Planned:
        """Search for the best sequence of actions from each row's state.

        Args:
            state: ``[*B, ...]``, a dict or a TensorDict with the model's state keys.
            generator: draws the noise.
            noise: in its place, as :meth:`draw` gives it.
            carried: by the plan before; ``planned`` tells which rows have one.
            given: what the objective reads beside the state, ``[*B, ...]``; the state's own entry if not given.
            explore: whether the first action is an explorer's.

        Raises:
            ValueError: if neither noise nor generator is given.
            DivergedError: if the value of a candidate is not finite.
        """
        state, batch = self._rows(state)
        if noise is None:
            if generator is None:
                raise ValueError("a plan is random: pass generator= or noise=.")
            noise = self.draw(tuple(batch), generator)
        gradient = torch.enable_grad if self.search.needs_gradient else torch.no_grad
        with torch.no_grad(), self._mode:
            mask = None if self.action_mask is None else self.action_mask(state)
            read = {key: state[key] for key in self.objective.keys if key in state}
            proposed = self._proposed(state, len(batch), noise, mask)
            extras = {"given": proposed, "mask": mask, "read": {**read, **(given or {})}}
            plan = self._begun(batch, carried)
            steps = batch.numel() * self.horizon
            self.dreamed_steps += steps * self.proposals
            for iteration in self.budget.iterations(plan.best.device):
                stage = self._stage(iteration)
                with gradient():
                    plan = self.scan(self, plan, state, noise.iterations(iteration), stage, extras)
                self.dreamed_steps += steps * self.particles * self.search.count(iteration, stage, self.proposals)
            self._refuse(plan)
            sequence = self.choice.sequence(plan, noise.choice)
            first = sequence[..., 0, :]
            if explore:
                first = self.choice.explored(first, plan, noise.choice)
            actions = self.action_vector.inverse(sequence)
            return Planned(self.action_vector.inverse(first), actions, self._carried(plan), plan)

    def score(self, candidates: Tensor, state: State, noise: IterationNoise, given: dict[str, Tensor]) -> Tensor:
        """The imagined value of candidates.

        Args:
            candidates: ``[*B, N, H, A]``.
            state: one for each row, ``[*B, ...]``.
            noise: of the iteration.
            given: what the objective reads beside the state.

        Returns:
            ``[*B, N]``.
        """
        lead = candidates.ndim - 3
        counts = (candidates.shape[lead], self.particles)
        start = repeated(state, lead, counts)
        vector = candidates.unsqueeze(lead + 1).expand(*candidates.shape[: lead + 1], self.particles, -1, -1)
        actions = (
            self.action_vector.relaxed(vector) if self.search.needs_gradient else self.action_vector.inverse(vector)
        )
        value = imagined_value(
            self.model, self.objective, start, actions, noise.dream, noise.objective, given, lead + 2
        )
        value = value.expand(*candidates.shape[: lead + 1], self.particles).mean(-1)
        if self.nan_value is None:
            return value
        # Where no candidate has a value the model has diverged, which no paper's number may hide.
        return torch.nan_to_num(value, nan=self.nan_value).where(~value.isnan().all(-1, keepdim=True), value)

    # -- as a policy ---------------------------------------------------------------------------------------------------

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Read the state, plan, write ``action`` and what is carried."""
        planned = self.planned(tensordict)
        tensordict.set("action", planned.action)
        for key, value in planned.carried.items():
            tensordict.set(key, value)
        return tensordict

    def planned(self, tensordict: TensorDictBase) -> Planned:
        """The plan from what :meth:`forward` reads, with the policy's own draws.

        Args:
            tensordict: the state, what the objective reads beside it, and what is carried, ``[*B]``.

        Raises:
            KeyError: if the state, or what the objective reads, is missing.
        """
        carried: dict[str, Tensor] = {}
        for key in self.carried_spec().keys():
            value = tensordict.get(cast(Any, key), None)
            if value is not None:
                carried[str(key)] = cast(Tensor, value)
        is_init = tensordict.get("is_init", None)
        if is_init is not None and PLANNED in carried:
            carried[PLANNED] = carried[PLANNED] & ~cast(Tensor, is_init)
        missing = [key for key in (*self._states, *self.objective.keys) if key not in tensordict.keys()]
        if missing:
            raise KeyError(
                f"the planner reads {missing}, which the input lacks: put the model's filter in front of it "
                f"(LatentPolicy(model, planner)), and add what the objective reads, such as a goal."
            )
        return self.plan(
            tensordict,
            generator=self._drawing(cast(Tensor, tensordict.get(self._states[0])).device),
            carried=carried if PLANNED in carried else None,
            given={key: cast(Tensor, tensordict.get(key)) for key in self.objective.keys},
            explore=interaction_type() is InteractionType.RANDOM,
        )

    def carried_spec(self) -> Composite:
        """What passes from a plan to the next one, for one row; empty if nothing does."""
        shape = (self.horizon, self.action_vector.size)
        specs: dict[str, TensorSpec] = {}
        if self._carries:
            specs[PLANNED] = Binary(1, shape=torch.Size([1]), dtype=torch.bool)
            specs[KEPT] = Unbounded(torch.Size(shape))
        if self.search.carries_elites:
            specs[ELITES] = Unbounded(torch.Size((self.search.elites, *shape)))
        return Composite(specs)

    def make_tensordict_primer(self) -> TensorDictPrimer:
        """The transform that carries the plan from step to step; an episode's first step has none."""
        return TensorDictPrimer(self.carried_spec(), default_value=0.0, expand_specs=True)

    def generator_state(self) -> Tensor:
        """Where the policy's draws are."""
        return self._drawing(self.center.device).get_state()

    def set_generator_state(self, state: Tensor) -> None:
        """Go on with the draws from there.

        Args:
            state: of :meth:`generator_state`, on the same kind of device.
        """
        self._drawing(self.center.device).set_state(state)

    # -- parts ---------------------------------------------------------------------------------------------------------

    center: Tensor

    def _center(self, given: Tensor | None) -> Tensor:
        """The sequence in the middle of all actions, ``[H, A]``: as given, or zeros, or even probabilities."""
        codec = self.action_vector.codec
        if given is not None:
            if given.shape != (self.action_vector.size,):
                raise ValueError(f"center is an action vector [{self.action_vector.size}]; got {list(given.shape)}.")
            return given.detach().float().expand(self.horizon, -1).clone()
        if not isinstance(codec, DiscreteCodec):
            return torch.zeros(self.horizon, self.action_vector.size)
        return torch.cat([torch.full((n,), 1.0 / n) for n in codec.classes]).expand(self.horizon, -1).clone()

    def _stage(self, iteration: int) -> Stage:
        if not self.search.carries_elites:
            return "middle"
        return "first" if iteration == 0 else "last" if iteration == self.budget.most - 1 else "middle"

    def _rows(self, given: State | TensorDictBase) -> tuple[State, torch.Size]:
        """The model's state, and its batch dims; whatever is the planner's own follows it to its device."""
        state: State = {}
        batch = torch.Size()
        for key, leaf in items_of(self.model.state_spec):
            value = cast("Tensor | None", given.get(cast(Any, key), None))
            if value is None:
                raise KeyError(f"the state lacks {key!r}; a {type(self.model).__name__} has {self._states}.")
            state[key], batch = value, value.shape[: value.ndim - leaf.ndim]
            if value.device != self.center.device:
                self.center = self.center.to(value.device)
                self.action_vector.to(value.device)
        return state, batch

    def _proposed(self, state: State, lead: int, noise: PlanNoise, mask: Tensor | None) -> Tensor | None:
        """The policy's candidates, ``[*B, P, H, A]``."""
        if self.policy is None:
            return None
        start = repeated(state, lead, (self.proposals,))
        vectors = followed(
            self.model, self.policy, self.action_vector, start, self.horizon, noise.policy_dream, noise.policy
        )
        return vectors if mask is None else vectors * mask[..., None, None, :]

    def _begun(self, batch: torch.Size, carried: Mapping[str, Tensor] | None) -> Plan:
        center = self.center.expand(*batch, *self.center.shape)
        if carried is None or not self._carries:
            return self.search.begin(center)
        planned = carried[PLANNED][..., None]
        begin = self.warm_start.begin(carried[KEPT], center).where(planned, center)
        elites = carried[ELITES] * planned[..., None] if self.search.carries_elites else None
        return self.search.begin(begin, elites)

    def _carried(self, plan: Plan) -> dict[str, Tensor]:
        if not self._carries:
            return {}
        planned = torch.ones_like(plan.best_value, dtype=torch.bool).unsqueeze(-1)
        carried = {PLANNED: planned, KEPT: self.warm_start.kept(plan)}
        return {**carried, ELITES: plan.elites} if self.search.carries_elites else carried

    def _refuse(self, plan: Plan) -> None:
        """One look at the end, where the action is about to be read anyway."""
        if bool(plan.is_finite.all()):
            return
        rows = (~plan.is_finite.reshape(-1)).nonzero().flatten().tolist()
        raise DivergedError(
            f"the values of some candidates are not finite, in rows {rows}: look at the state that the plan began in "
            f"and at the model's weights, plan less far ahead, or say what such a candidate is worth (nan_value=)."
        )

    def _drawing(self, device: torch.device) -> torch.Generator:
        if self._generator is None or self._generator.device != device:
            self._generator = torch.Generator(device)
            self._generator.seed() if self._seed is None else self._generator.manual_seed(self._seed)
        return self._generator


def vector_of_actions(spec: TensorSpec, search: SequenceSearch) -> ActionVector:
    """The vectors that a search moves in: numbers in [-1, 1], or one-hot choices.

    Raises:
        ValueError: if the actions have no bounds, are bits, or are choices that a search by gradients cannot move in.
    """
    vector = ActionVector(spec)
    if isinstance(vector.codec, DiscreteCodec):
        if search.needs_gradient:
            raise ValueError(
                "a search by gradients needs actions that are numbers, and these are choices: plan by sampling, such "
                "as with cem(model)."
            )
        return vector
    codec = vector.codec
    if not isinstance(codec, VectorCodec):
        raise ValueError(f"a planner takes numbers between bounds, or choices; these actions are {spec}.")
    is_bounded = vector.center is not None and codec.low is not None and codec.high is not None
    if not is_bounded or not bool(((codec.low.abs() < 1e6) & (codec.high.abs() < 1e6)).all()):  # pyright: ignore
        raise ValueError(
            f"a planner searches between bounds, and these actions have none: give the model an action_spec with "
            f"bounds, Bounded(low, high, shape); got {spec}."
        )
    return vector
