"""The losses of Delta-IRIS (Micheli et al., 2024): the tokenizer's, and the transformer's on its tokens."""

from typing import NamedTuple

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor

from wmcomponents.dynamics import DeltaTransformer
from wmcomponents.functional import cross_entropy
from wmcomponents.models.tokens.base import RewardedTransformerModel
from wmcomponents.models.tokens.delta_iris.config import DeltaIRISLossConfig, DeltaIRISOptimizerConfig
from wmcomponents.models.tokens.objective import TokenWorldLoss, kept_weight, pieces
from wmcomponents.nn import CosineQuantizer
from wmcomponents.nn.conv.frame_cnn import channels_first
from wmcomponents.objectives.arrivals import check_sequences
from wmcomponents.objectives.configured import loss_part, optimizer_part
from wmcomponents.objectives.model_loss import Terms
from wmcomponents.objectives.weights import placed
from wmcomponents.tokenizers import DeltaTokenizer

DeltaIRISModel = RewardedTransformerModel[DeltaTokenizer[CosineQuantizer], DeltaTransformer]
"""What the losses train: a Delta-IRIS, or a model made of the same parts."""


class ChangePieces(NamedTuple):
    """Pieces of sequences that fit into the transformer's context.

    Attributes:
        pixels: x_t, ``[P, M, H, W, C]``.
        action: a_t, int64 ``[P, M]``.
        tokens: of the change from x_t to x_{t+1}, int64 ``[P, M, K]``.
        reward: r_{t+1}, ``[P, M]``.
        terminated: of t + 1, int64 ``[P, M]``.
        weight: ``[P, M]``; 0 for padding and behind the end of an episode.
    """

    pixels: Tensor
    action: Tensor
    tokens: Tensor
    reward: Tensor
    terminated: Tensor
    weight: Tensor


class DeltaIRISLoss(TokenWorldLoss[DeltaIRISModel]):
    r"""Objective of Delta-IRIS on TorchRL-layout sequences, in two stages.

    *Tokenizer*: every transition by itself, frames in [0, 1].

    .. math::
        L = a \overline{|x' - \hat x'|} + b \overline{(x' - \hat x')^2} + c \max (x' - \hat x')^2
        + \beta\, \overline{(\bar z - sg(e))^2}

    with a, b and c called ``absolute``, ``squared`` and ``worst`` in :class:`~wmcomponents.models.DeltaIRISLossConfig`.

    After each such update (:meth:`after_update`) the codebook follows the vectors that the update saw. Nothing else
    ever changes it.

    *Transformer*: three mean cross entropies on the tokens of the tokenizer as it is, which gets no gradient: of the
    tokens of each change, of r_{t+1}, of terminated_{t+1}.

    The stage follows from the step alone (:meth:`before_update`): the tokenizer for the first ``tokenizer_steps``; then
    the transformer, with the tokenizer again at every ``tokenizer_every``-th update. Outside a training loop, say which
    with :attr:`stage`, and call :meth:`after_update` too.

    Sequences may be longer than the context, and cross from episode to episode: they are cut into pieces of the
    context's length, each of which counts up to its first end of an episode. The rest of that piece is left out.

    Keys read (rename with ``set_keys``): the image, ``action``, ``is_init``; under ``next`` the image, ``reward``,
    ``terminated``, ``done``. Honoured where present: ``("collector", "mask")`` and ``priority_weight``.

    Keys written: in the tokenizer's stage ``loss_absolute``, ``loss_squared``, ``loss_worst``, ``loss_commitment``, and
    ``perplexity`` detached, of the batch's codes; in the other ``loss_tokens``, ``loss_reward``, ``loss_termination``,
    and ``accuracy`` of the tokens detached.

    Args:
        world_model: a :class:`~wmcomponents.models.DeltaIRIS`, or one made of the same parts.
        config: numbers of the losses; the paper's for Atari if not given.
        optimizer: learning rates and decay; the paper's for Atari if not given.
        seed: of the choice of transitions and of revived codes.
        reduction: of the losses: ``"mean"`` (weighted), ``"sum"`` or ``"none"`` (``[transitions, 1]`` in the
            tokenizer's stage; in the other ``[P, M]`` of the pieces, of their tokens ``[P, M * K]``). Diagnostics are
            means.

    Raises:
        TypeError: if the model is not made of these parts.
        ValueError: for an unknown reduction, or stages that cannot be; on call, if the sequences have no batch
            ``[B, T]``.
        KeyError: on call, if a key is missing.

    Reference: Micheli et al. (2024), sections 2.1, 2.2, appendix A.
    """

    transformer = DeltaTransformer
    token_scale: Tensor
    reward_scale: Tensor
    termination_scale: Tensor

    def __init__(
        self,
        world_model: DeltaIRISModel,
        config: DeltaIRISLossConfig | None = None,
        *,
        optimizer: DeltaIRISOptimizerConfig | None = None,
        seed: int = 0,
        reduction: str = "mean",
    ) -> None:
        config = loss_part(DeltaIRISLossConfig, config)
        optimizer = optimizer_part(DeltaIRISOptimizerConfig, optimizer)
        super().__init__(
            world_model,
            config,
            optimizer,
            tokenizer_decay=optimizer.tokenizer_decay,
            coefficients={
                "token_scale": config.token_scale,
                "reward_scale": config.reward_scale,
                "termination_scale": config.termination_scale,
            },
            seed=seed,
            reduction=reduction,
        )

    def _written(self) -> list[NestedKey]:
        if self._stage == "tokenizer":
            return ["loss_absolute", "loss_squared", "loss_worst", "loss_commitment", "perplexity"]
        return ["loss_tokens", "loss_reward", "loss_termination", "accuracy"]

    def after_update(self, step: int) -> None:
        """Let the codebook follow what an update of the tokenizer saw."""
        seen = self.seen()
        if seen is None:
            return
        z, tokens, weight = seen
        with torch.no_grad(), placed(self.world_model_params, self.world_model):
            quantizer = self.world_model.tokenizer.quantizer
            noise = torch.rand(quantizer.codes, generator=self.generator, device=z.device)
            quantizer.update_(z, tokens, noise, weight.unsqueeze(-1).expand_as(tokens))

    # -- the losses ----------------------------------------------------------------------------------------------------

    def elements(self, tensordict: TensorDictBase) -> Terms:
        """The terms of the present stage, of sequences ``[B, T]``."""
        if self._stage == "tokenizer":
            return self.tokenizer_terms(*self._transitions(tensordict))
        return self.transformer_terms(self.changes(tensordict))

    def tokenizer_terms(self, pixels: Tensor, action: Tensor, following: Tensor, weight: Tensor) -> Terms:
        """Losses and diagnostics of the tokenizer, each ``[N, 1]``.

        Args:
            pixels: uint8 ``[N, H, W, C]``, or such images as float in [0, 255].
            action: int64 ``[N]``.
            following: the frames after, ``[N, H, W, C]``.
            weight: ``[N]``; 0 for padding.
        """
        tokenizer = self.world_model.tokenizer
        x, y = channels_first(pixels), channels_first(following)
        z = tokenizer.encode(x, action, y)
        codes, tokens, commitment = tokenizer.quantizer(z)
        losses = self.image_errors(y, tokenizer.decode(x, action, codes))
        if torch.is_grad_enabled():
            self.saw(z.detach(), tokens, weight)
        return self.tokenizer_scores({**losses, "commitment": commitment.mean(-1)}, tokens, weight)

    def transformer_terms(self, changes: ChangePieces) -> Terms:
        """Losses and diagnostics of the transformer, each ``[P, M]``; of the tokens ``[P, M * K]``.

        Args:
            changes: pieces of sequences.
        """
        model = self.world_model
        logits, rewards, ends = model.dynamics.compute(changes.pixels, changes.action, changes.tokens)
        predicted, target = logits.flatten(1, 2), changes.tokens.flatten(1)
        losses = {
            "tokens": self.token_scale * cross_entropy(predicted, target),
            "reward": self.reward_scale * model.rewards.loss(rewards, changes.reward),
            "termination": self.termination_scale * cross_entropy(ends, changes.terminated),
        }
        each = changes.weight.repeat_interleave(changes.tokens.shape[-1], 1)
        weights = {"tokens": each, "accuracy": each, "reward": changes.weight, "termination": changes.weight}
        return Terms(losses, {"accuracy": (predicted.argmax(-1) == target).to(predicted.dtype)}, weights)

    def changes(self, tensordict: TensorDictBase) -> ChangePieces:
        """The pieces of a batch of sequences ``[B, T]``, in tokens of the tokenizer as it is."""
        model, steps = self.world_model, self.transitions(tensordict)
        pixels, action, following = self._images(tensordict)
        length = min(model.dynamics.blocks, tensordict.batch_size[1])
        return ChangePieces(
            _cut(pixels, length),
            pieces(action, length),
            pieces(model.tokenizer.tokens(pixels, action, following), length),
            pieces(steps.reward, length),
            pieces(steps.terminated.long(), length),
            kept_weight(steps, length),
        )

    def _transitions(self, tensordict: TensorDictBase) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Transitions of the tokenizer's update, ``[N, ...]``, and their weights ``[N]``."""
        weight = self.transitions(tensordict).weight.flatten()
        chosen = self.drawn(weight)
        pixels, action, following = (value.flatten(0, 1)[chosen] for value in self._images(tensordict))
        return pixels, action, following, weight[chosen]

    def _images(self, tensordict: TensorDictBase) -> tuple[Tensor, Tensor, Tensor]:
        """Frames ``[B, T, H, W, C]``, actions ``[B, T]``, and the frames after."""
        image = self.observation_keys[0]
        check_sequences(tensordict, [image, ("next", image)])
        action = self.world_model.action_token(tensordict.get(self.tensor_keys.action))
        return tensordict.get(image), action, tensordict.get(("next", image))


def _cut(pixels: Tensor, length: int) -> Tensor:
    """Frames ``[B, T, H, W, C]`` as pieces, which stay bytes."""
    return pieces(pixels.flatten(2), length).unflatten(2, pixels.shape[2:])
