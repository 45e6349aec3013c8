"""The losses of LWM (Liu et al., 2024): the tokenizer's, and the transformer's over words and codes."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from tensordict import NestedKey, TensorDictBase
from torch import Tensor

from wmcomponents.dynamics import TextVisionLogits, TextVisionTransformer
from wmcomponents.functional import cross_entropy, example_weights
from wmcomponents.models.tokens.base import RewardedTransformerModel
from wmcomponents.models.tokens.frame_objective import FrameTokenLoss
from wmcomponents.models.tokens.lwm.config import LWMLossConfig
from wmcomponents.models.tokens.objective import episodes_of, pieces
from wmcomponents.nn import VectorQuantizer
from wmcomponents.objectives.model_loss import Terms
from wmcomponents.tokenizers import ImageTokenizer

LWMModel = RewardedTransformerModel[ImageTokenizer[VectorQuantizer], TextVisionTransformer]
"""What the losses train: an LWM, or a model made of the same parts."""


def text_vision_loss(
    logits: TextVisionLogits,
    target: Int[Tensor, "*batch t"],
    is_vision: Bool[Tensor, "*batch t"],
    weight: Float[Tensor, "*batch t"],
) -> Float[Tensor, ""]:
    r"""The mean of two means: of codes under the vision head, and of words under the text head.

    .. math:: L = \tfrac12 \overline{CE}_{vision} + \tfrac12 \overline{CE}_{text}

    Each mean is weighted over its own targets; one without targets is 0.

    Args:
        logits: of both heads.
        target: the next word or code.
        is_vision: whether the target is a code.
        weight: of the target; 0 where none is learned. :func:`~wmcomponents.functional.example_weights` makes packed
            examples count alike.

    Reference: Liu et al., LWM (2024), and its code.
    """
    total = weight.new_zeros(())
    for part, counts in ((logits.vision, is_vision), (logits.text, ~is_vision)):
        own = weight * counts
        loss = cross_entropy(part, target.masked_fill(own == 0, 0))
        total = total + 0.5 * (loss * own).sum() / own.sum().clamp_min(torch.finfo(own.dtype).tiny)
    return total


class LWMPieces(NamedTuple):
    """Pieces of sequences that fit into the transformer's context; episodes lie behind one another in them.

    Attributes:
        tokens: int64 ``[P, M, K]``.
        action: int64 ``[P, M]``.
        reward: r_{t+1}, ``[P, M]``.
        terminated: of t + 1, int64 ``[P, M]``.
        weight: ``[P, M]``; 0 for padding.
        episode: number of the episode in its piece, int64 ``[P, M]``.
    """

    tokens: Tensor
    action: Tensor
    reward: Tensor
    terminated: Tensor
    weight: Tensor
    episode: Tensor


class LWMLoss(FrameTokenLoss[LWMModel]):
    r"""Objective of LWM on TorchRL-layout sequences, in two stages.

    *Tokenizer*: every frame by itself, in [-1, 1]: as :class:`~wmcomponents.models.IRISLoss`, with the commitment of
    the configuration. The paper takes a tokenizer that is trained already.

    *Transformer*: the mean of two means on the tokens of the tokenizer as it is, which gets no gradient: half of the
    cross entropy of all codes (``eof`` among them) but the first frame's first one, and half of that of the words, of
    which a step has two, reward and end.

    Sequences may be longer than the context, and cross from episode to episode: they are cut into pieces of the
    context's length, in which episodes are packed: none sees another, and every one of a batch counts alike, as long
    ones and short ones do that are padded instead (*masked sequence packing*).

    The stage follows from the step alone (:meth:`before_update`). Outside a training loop, say which with
    :attr:`stage`, and where codes are revived call :meth:`after_update` too.

    Keys read (rename with ``set_keys``): the image, ``action``, ``is_init``; under ``next`` the image, ``reward``,
    ``terminated``, ``done``. Honoured where present: ``("collector", "mask")`` and ``priority_weight``.

    Keys written: in the tokenizer's stage ``loss_absolute``, ``loss_squared``, ``loss_worst``, ``loss_commitment``,
    with a perceptual distance ``loss_perceptual``, and ``perplexity`` detached; in the other ``loss_tokens``,
    ``loss_reward``, ``loss_termination`` (factors of a half and of two quarters in them), and ``accuracy`` of the codes
    detached.

    Args:
        world_model: an :class:`~wmcomponents.models.LWM`, or one made of the same parts.
        config: numbers of the losses; the paper's if not given.
        optimizer: learning rates; the paper's if not given.
        perceptual: distance of images, such as :class:`~wmcomponents.nn.LPIPS`; left out if not given.
        seed: of the choice of frames.
        reduction: of the losses: ``"mean"`` (weighted), ``"sum"`` or ``"none"`` (``[frames, 1]`` in the tokenizer's
            stage; in the other ``[P, M]`` of the pieces, of their codes ``[P, M * (K + 1) - 1]``).

    Raises:
        TypeError: if the model is not made of these parts, or codes are to be revived that no codebook holds.
        ValueError: for an unknown reduction, or stages that cannot be; on call, if the sequences have no batch
            ``[B, T]``.
        KeyError: on call, if a key is missing.

    Reference: Liu et al., World Model on Million-Length Video and Language with Blockwise RingAttention (2024).
    """

    transformer = TextVisionTransformer
    config_class = LWMLossConfig

    def _written(self) -> list[NestedKey]:
        if self._stage == "tokenizer":
            return self._of_tokenizer()
        return ["loss_tokens", "loss_reward", "loss_termination", "accuracy"]

    # -- the losses ----------------------------------------------------------------------------------------------------

    def transformer_elements(self, tensordict: TensorDictBase) -> Terms:
        """The terms of the transformer's stage, of sequences ``[B, T]``."""
        return self.transformer_terms(self.segments(tensordict))

    def transformer_terms(self, segments: LWMPieces) -> Terms:
        """Losses and diagnostics of the transformer, each ``[P, M]``; of the codes ``[P, M * (K + 1) - 1]``.

        Args:
            segments: pieces of sequences.
        """
        s, dynamics = segments, self.world_model.dynamics
        logits, rewards, ends = dynamics.along(s.tokens, s.action, s.episode)
        eof = torch.full_like(s.tokens[..., :1], dynamics.eof)
        target = torch.cat([s.tokens, eof], -1).flatten(1)[:, 1:]
        predicted = logits.flatten(1, 2)[:, :-1]  # what stands behind a piece's last action is not there
        slots = s.tokens.shape[-1] + 1
        of_code = s.episode.repeat_interleave(slots, 1)
        # The first code of an episode has nothing before it.
        weight = s.weight.repeat_interleave(slots, 1)[:, 1:] * (of_code[:, 1:] == of_code[:, :-1])
        words, codes = example_weights(s.episode, s.weight), example_weights(of_code[:, 1:], weight)
        losses = {
            "tokens": 0.5 * cross_entropy(predicted, target),
            "reward": 0.25 * self.world_model.rewards.loss(rewards, s.reward),
            "termination": 0.25 * cross_entropy(ends, s.terminated),
        }
        hits = (predicted.argmax(-1) == target).to(predicted.dtype)
        return Terms(
            losses,
            {"accuracy": hits},
            {"tokens": codes, "accuracy": codes, "reward": words, "termination": words},
        )

    def segments(self, tensordict: TensorDictBase) -> LWMPieces:
        """The pieces of a batch of sequences ``[B, T]``, in tokens of the tokenizer as it is."""
        model, keys = self.world_model, self.tensor_keys
        steps = self.transitions(tensordict, self.observation_keys)
        length = min(model.dynamics.max_frames, tensordict.batch_size[1])
        return LWMPieces(
            pieces(model.tokenizer.tokens(tensordict.get(self.observation_keys[0])), length),
            pieces(model.action_token(tensordict.get(keys.action)), length),
            pieces(steps.reward, length),
            pieces(steps.terminated.long(), length),
            pieces(steps.weight, length),
            episodes_of(steps, length),
        )
