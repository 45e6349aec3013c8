"""What the world models built around a recurrent state-space model have in common."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Composite, TensorSpec, Unbounded

from wmcomponents.codecs.action import ActionVector
from wmcomponents.codecs.reward_unit import rewards_in
from wmcomponents.decoders import MultiDecoder
from wmcomponents.dynamics import RSSM
from wmcomponents.encoders import MultiEncoder
from wmcomponents.heads import Head
from wmcomponents.pretrained import PretrainedModel
from wmcomponents.world_model import Noise, Observation, Prediction, State, keys_of


class Filtered(NamedTuple):
    """A filtered sequence: the states, and what they were made of.

    Attributes:
        deter: recurrent states, ``[*B, T, D]``.
        stoch: samples of the posterior, ``[*B, T, *latent.shape]``.
        posterior: raw parameters of the posterior, ``[*B, T, params]``.
        action: vectors of the actions that led to each observation, ``[*B, T, A]``.
    """

    deter: Tensor
    stoch: Tensor
    posterior: Tensor
    action: Tensor


class RSSMWorldModel(PretrainedModel):
    """A world model assembled of exchangeable parts around an RSSM.

    State: ``deter`` float ``[*B, D]`` and ``stoch`` float ``[*B, *latent.shape]``. Features: both, flattened, ``deter``
    first. A part that is absent is a capability that is absent.

    Args:
        observation_spec: spec of one real observation.
        action_spec: spec of one real action.
        encoder: observations to an embedding.
        dynamics: the RSSM.
        decoder: state to observations, or ``None``.
        reward_head: features to the reward, or ``None``.
        continue_head: features to a probability, or ``None``.
        discount: factor on the continue head's target in training; the head's output divided by it is
            P(not terminated).
    """

    format_1_weights = ((r"^reward_head\.transform\.", "reward_head.distribution.transform."),)

    def __init__(
        self,
        *,
        observation_spec: Composite,
        action_spec: TensorSpec,
        encoder: MultiEncoder,
        dynamics: RSSM,
        decoder: MultiDecoder | None,
        reward_head: Head | None,
        continue_head: Head | None,
        discount: float = 1.0,
    ) -> None:
        latent = dynamics.latent
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            state_spec=Composite(
                deter=Unbounded(torch.Size([dynamics.cell.deter])), stoch=Unbounded(torch.Size(latent.shape))
            ),
            noise_spec=Composite(stoch=latent.noise_spec()),
        )
        self.action_vector = ActionVector(action_spec)
        self.encoder = encoder
        self.dynamics = dynamics
        self.decoder = decoder
        self.reward_head = reward_head
        self.continue_head = continue_head
        self.discount = discount

    @property
    def capabilities(self) -> frozenset[str]:
        """Everything but what an absent part would have given."""
        parts = {"decode": self.decoder, "reward": self.reward_head, "continue": self.continue_head}
        return super().capabilities - {name for name, part in parts.items() if part is None}

    def prepare(self, sequences: TensorDictBase) -> None:
        """Fit the scale of vector observations and the unit of rewards, once, where the configuration says so.

        A model that was fitted keeps its scale: its weights were learned in it.
        """
        self.encoder.prepare({key: sequences[key] for key in keys_of(self.observation_spec)})
        if self.reward_head is not None:
            self.reward_head.prepare(rewards_in(sequences))

    def initial_state(self, batch_size: Sequence[int] = (), device: torch.device | str | None = None) -> State:
        """Zeros, or the learned state in which the dynamics begin."""
        deter, stoch = self.dynamics.initial_state(batch_size, device)  # pyright: ignore[reportArgumentType]
        return {"deter": deter, "stoch": stoch}

    def null_action(self, batch_size: Sequence[int] = (), device: torch.device | str | None = None) -> Tensor:
        """The action whose vector is zero, as the filter takes it where an episode begins."""
        return self.action_vector.null(batch_size).to(device)

    def preprocessing_noise(self) -> dict[str, TensorSpec]:
        """The base noise that :meth:`preprocessed` takes in training, by observation key: none."""
        return {}

    def preprocessed(self, observation: Observation, noise: Noise | None = None) -> Observation:
        """What the encoder is shown and the decoder learns: the observation, unless a family says otherwise.

        Args:
            observation: observation of the environment, ``[*B, ...]``.
            noise: base noise that training drew (``RSSMModelLoss.draw``); None without randomness, as in the filter.
        """
        return observation

    def observe(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """One step of the filter, ``[*B, ...]``; see :meth:`WorldModel.observe`."""
        deter, stoch, _ = self.dynamics.observe_step(
            state["deter"],
            state["stoch"],
            self.action_vector(action),
            self.encoder.embed(self.preprocessed(observation)),
            is_init,
            None if noise is None else noise["stoch"],
        )
        return {"deter": deter, "stoch": stoch}

    def observe_sequence(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> State:
        """The filter along ``[*B, T, ...]``, all encoded at once; see :meth:`WorldModel.observe_sequence`."""
        filtered = self.filter_sequence(state, action, self.preprocessed(observation), is_init, noise)
        return {"deter": filtered.deter, "stoch": filtered.stoch}

    def filter_sequence(
        self, state: State, action: Tensor, observation: Observation, is_init: Tensor, noise: Noise | None
    ) -> Filtered:
        """What :meth:`observe_sequence` computes and an objective learns from.

        Args:
            state: the state before the sequence, ``[*B, ...]``.
            action: actions that led to the observations, ``[*B, T, ...]``.
            observation: observations as :meth:`preprocessed` returns them, ``[*B, T, ...]``.
            is_init: whether an episode begins with the observation, bool ``[*B, T, 1]``.
            noise: base noise with the entry ``"stoch"``, ``[*B, T, *latent.noise_shape]``; None: the mode.
        """
        vector, embed = self.action_vector(action), self.encoder.embed(observation)
        base = None if noise is None else noise["stoch"]
        states = self.dynamics.observe_sequence(state["deter"], state["stoch"], vector, embed, is_init, base)
        return Filtered(*states, vector)

    def imagine(self, state: State, action: Tensor, noise: Noise | None) -> Prediction:
        """One step of the dream, ``[*B, ...]``; see :meth:`WorldModel.imagine`."""
        deter, stoch, _ = self.dynamics.imagine_step(
            state["deter"], state["stoch"], self.action_vector(action), None if noise is None else noise["stoch"]
        )
        feat = self.dynamics.features(deter, stoch)
        reward = None if self.reward_head is None else self.reward_head.mean(self.reward_head.raw(feat))
        cont = None
        if self.continue_head is not None:
            cont = self.continue_head.mean(self.continue_head.raw(feat))
            if self.discount != 1.0:
                cont = (cont / self.discount).clamp(max=1.0)
        return Prediction({"deter": deter, "stoch": stoch}, reward, cont)

    def decode(self, state: State) -> Observation:
        """The most likely observation."""
        if self.decoder is None:
            return super().decode(state)
        return self.decoder.mean(self.decoder.raw(state["deter"], state["stoch"]))

    def features(self, state: State) -> Tensor:
        """``deter`` and flat ``stoch``, ``[*B, F]``."""
        return self.dynamics.features(state["deter"], state["stoch"])
