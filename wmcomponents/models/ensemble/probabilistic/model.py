"""A world model of numbers: an ensemble of networks that each predict a Gaussian of what comes next."""

from typing import Any, cast

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Bounded, Composite, TensorSpec, Unbounded

from wmcomponents.codecs import ObservationGroups, Standardize
from wmcomponents.codecs.action import ActionVector
from wmcomponents.dynamics import GaussianMLPEnsemble
from wmcomponents.models.ensemble.probabilistic.config import ProbabilisticEnsembleConfig
from wmcomponents.models.ensemble.probabilistic.objective import ProbabilisticEnsembleLoss
from wmcomponents.pretrained import PretrainedModel
from wmcomponents.world_model import MemberPredictions, Noise, Observation, Prediction, Quantity, State, keys_of


class ProbabilisticEnsemble(PretrainedModel):
    r"""Networks computed together, each of which predicts the change of the observation and the reward.

    .. math:: (\Delta x, r) \sim N(\mu_m(x, a), \sigma_m^2(x, a)), \qquad x' = x + \Delta x

    The state is the observation's numbers and the number of the member that predicts; no past is kept. The members that
    predict are the elites. Without noise a row follows the mean of the first of them. An end is not predicted: dream
    with ``termination="off"``.

    Inputs, changes and rewards are standardised by what :meth:`prepare` finds in data; what members predict
    (:meth:`predict_members`) is in the environment's units.

    Args:
        config: a preset such as ``ProbabilisticEnsembleConfig.mbpo()``, varied with its keyword arguments.
        observation_spec: spec of one real observation: numbers, under one or several keys.
        action_spec: spec of one real action.

    Raises:
        ValueError: if something else than numbers is observed, or there are more elites than members.

    Reference: Chua et al., Deep Reinforcement Learning in a Handful of Trials (PETS, 2018); Janner et al., When to
    Trust Your Model (MBPO, 2019); Yu et al., MOPO (2020).

    Example:
        >>> from torchrl.data import Bounded, Composite, Unbounded
        >>> model = ProbabilisticEnsemble("tiny", Composite(observation=Unbounded(3)), Bounded(-2, 2, (1,)))
        >>> state, action = model.initial_state((5,)), model.null_action((5,))
        >>> model.predict_members(state, action).std.shape
        torch.Size([5, 5, 3])
    """

    config_class = ProbabilisticEnsembleConfig
    config: ProbabilisticEnsembleConfig
    elites: Tensor

    def __init__(
        self, config: ProbabilisticEnsembleConfig, observation_spec: Composite, action_spec: TensorSpec
    ) -> None:
        net = config.network
        groups = ObservationGroups.from_spec(observation_spec)
        odd = sorted(set(groups.keys) - set(groups.vector_sizes))
        if odd:
            raise ValueError(
                f"a ProbabilisticEnsemble models numbers, and {odd} are none: use a model with an encoder, such as "
                f"Ensemble.of(lambda: DreamerV3(...), members=5)."
            )
        if not 1 <= net.elites <= net.members:
            raise ValueError(f"elites are 1 to {net.members} of the members; got {net.elites}.")
        size = groups.vector_size
        choice = Bounded(0.0, 1.0, torch.Size([1]))
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            state_spec=Composite(
                numbers=Unbounded(size), member=Bounded(-1, net.members - 1, torch.Size([1]), dtype=torch.int64)
            ),
            noise_spec=Composite(imagine=Composite(outcome=Unbounded(size + 1), choice_of_member=choice)),
        )
        self.config = config
        self.size = size
        self.groups = groups
        self.action_vector = ActionVector(action_spec)
        self.inputs = Standardize(size + self.action_vector.size)
        self.targets = Standardize(size + 1)
        self.dynamics = GaussianMLPEnsemble(
            size + self.action_vector.size,
            size + 1,
            members=net.members,
            units=net.units,
            layers=net.layers,
            act=net.act,
            learn_bounds=net.learn_bounds,
        )
        self.register_buffer("elites", torch.arange(net.elites))

    @property
    def capabilities(self) -> frozenset[str]:
        """All but an end."""
        return super().capabilities - {"continue"}

    def objective(self) -> ProbabilisticEnsembleLoss:
        """The likelihood of what came next, each member on rows of its own."""
        return ProbabilisticEnsembleLoss(self, self.config.loss, optimizer=self.config.optimizer)

    def prepare(self, sequences: TensorDictBase) -> None:
        """Fit the scale of inputs, changes and rewards, once."""
        inputs, target = self._pairs_of(sequences)
        self.inputs.prepare(inputs)
        self.targets.prepare(target)

    def pairs(
        self, observation: Observation, action: Tensor, following: Observation, reward: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What the networks read and are to predict, ``[*B, ...]`` in the environment's units.

        Args:
            observation: x_t.
            action: a_t.
            following: x_{t+1}.
            reward: r_{t+1}, ``[*B, 1]``.
        """
        numbers = self.groups.numbers(observation)
        change = self.groups.numbers(following) - numbers
        return torch.cat([numbers, self.action_vector(action)], -1), torch.cat([change, reward], -1)

    @torch.no_grad()
    def choose_elites(self, sequences: TensorDictBase) -> Tensor:
        """Let the members predict in dreams that are best on these data, which none was trained on.

        Args:
            sequences: transitions in TorchRL's layout, any batch.

        Returns:
            Their numbers, best first.
        """
        inputs, target = self._pairs_of(sequences)
        rows = self.inputs(inputs).flatten(0, -2), self.targets(target).flatten(0, -2)
        self.elites.copy_(self.dynamics.elite(*rows, count=len(self.elites)))
        return self.elites.clone()

    def observe(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """The observation's numbers; where an episode begins, the next step draws a member."""
        member = torch.where(is_init, torch.full_like(state["member"], -1), state["member"])
        return {"numbers": self.groups.numbers(observation).clone(), "member": member}

    def imagine(self, state: State, action: Tensor, noise: Noise | None) -> Prediction:
        """What the drawn member predicts, ``[*B, ...]``; without noise its mean."""
        mean, std = self._predicted(state, action)
        choice = None if noise is None else noise["choice_of_member"]
        again = torch.full_like(state["member"], self.config.network.propagation == "TS1" and noise is not None)
        member = self._drawn(state["member"], choice, again.bool())
        index = member.unsqueeze(-1).expand(*member.shape[:-1], 1, mean.shape[-1])
        outcome = mean.gather(-2, index).squeeze(-2)
        if noise is not None:
            outcome = outcome + std.gather(-2, index).squeeze(-2) * noise["outcome"]
        change, reward = outcome.split([self.size, 1], -1)
        return Prediction({"numbers": state["numbers"] + change, "member": member}, reward, None)

    def decode(self, state: State) -> Observation:
        """The numbers by key, within their bounds."""
        parts = state["numbers"].split(list(self.groups.vector_sizes.values()), -1)
        keys = zip(self.groups.vector_sizes, parts, strict=True)
        return {key: cast(Any, self.groups.codecs[key]).decode(part).clone() for key, part in keys}

    def features(self, state: State) -> Tensor:
        """The observation's numbers, ``[*B, D]``."""
        return state["numbers"].clone()

    def predict_members(self, state: State, action: Tensor, of: Quantity = "observation") -> MemberPredictions:
        """Mean and spread of every member, elite or not, ``[*B, M, D]`` in the environment's units."""
        if of not in ("observation", "features", "reward"):
            raise ValueError(f"members predict one of observation, features, reward; got {of!r}.")
        mean, std = self._predicted(state, action)
        if of == "reward":
            return MemberPredictions(mean[..., self.size :], std[..., self.size :])
        return MemberPredictions(state["numbers"].unsqueeze(-2) + mean[..., : self.size], std[..., : self.size])

    def _pairs_of(self, sequences: TensorDictBase) -> tuple[Tensor, Tensor]:
        """The pairs of real data in TorchRL's layout."""
        keys = keys_of(self.observation_spec)
        return self.pairs(
            {key: cast(Tensor, sequences[key]) for key in keys},
            cast(Tensor, sequences["action"]),
            {key: cast(Tensor, sequences["next", key]) for key in keys},
            cast(Tensor, sequences["next", "reward"]),
        )

    def _predicted(self, state: State, action: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and spread of change and reward, ``[*B, M, D + 1]`` in the environment's units."""
        x = self.inputs(torch.cat([state["numbers"], self.action_vector(action)], -1))
        mean, log_var = self.dynamics(x.reshape(-1, x.shape[-1]))
        shape = (*x.shape[:-1], *mean.shape[::2])
        mean, std = (part.movedim(0, -2).reshape(shape) for part in (mean, (0.5 * log_var).exp()))
        # The spread has the scale of the targets and not their mean.
        return self.targets.inverse(mean), self.targets.inverse(std) - self.targets.inverse(torch.zeros_like(std))

    def _drawn(self, member: Tensor, choice: Tensor | None, again: Tensor) -> Tensor:
        """The member of each row: an elite, drawn where it is asked again or was never drawn."""
        place = torch.zeros_like(member) if choice is None else (choice * len(self.elites)).long()
        drawn = self.elites[place.clamp(max=len(self.elites) - 1)]
        return torch.where(again | (member < 0), drawn, member)

    def initial_state(self, batch_size: Any = (), device: torch.device | str | None = None) -> State:
        """Zeros, and no member drawn."""
        state = super().initial_state(batch_size, device)
        return {**state, "member": torch.full_like(state["member"], -1)}
