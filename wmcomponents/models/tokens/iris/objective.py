"""The losses of IRIS (Micheli et al., 2023): the tokenizer's, and the transformer's on its tokens."""

from typing import NamedTuple

from tensordict import NestedKey, TensorDictBase
from torch import Tensor

from wmcomponents.dynamics import TokenTransformer
from wmcomponents.functional import cross_entropy
from wmcomponents.models.tokens.base import RewardedTransformerModel
from wmcomponents.models.tokens.frame_objective import FrameTokenLoss
from wmcomponents.models.tokens.iris.config import IRISLossConfig
from wmcomponents.models.tokens.objective import kept_weight, pieces
from wmcomponents.nn import VectorQuantizer
from wmcomponents.objectives.model_loss import Terms
from wmcomponents.tokenizers import ImageTokenizer

IRISModel = RewardedTransformerModel[ImageTokenizer[VectorQuantizer], TokenTransformer]
"""What the losses train: an IRIS, or a model made of the same parts."""


class TokenPieces(NamedTuple):
    """Pieces of sequences that fit into the transformer's context.

    Attributes:
        tokens: int64 ``[P, M, K]``.
        action: int64 ``[P, M]``.
        reward: r_{t+1}, ``[P, M]``.
        terminated: of t + 1, int64 ``[P, M]``.
        weight: ``[P, M]``; 0 for padding and behind the end of an episode.
    """

    tokens: Tensor
    action: Tensor
    reward: Tensor
    terminated: Tensor
    weight: Tensor


class IRISLoss(FrameTokenLoss[IRISModel]):
    r"""Objective of IRIS on TorchRL-layout sequences, in two stages.

    *Tokenizer*: every frame by itself, in [-1, 1].

    .. math::
        L = a \overline{|x - \hat x|} + b \overline{(x - \hat x)^2} + c \max (x - \hat x)^2
        + LPIPS(x, \hat x) + \overline{(sg(z) - e)^2} + \beta\, \overline{(z - sg(e))^2}

    with a, b and c called ``absolute``, ``squared`` and ``worst`` in :class:`~wmcomponents.models.IRISLossConfig`.

    *Transformer*: three mean cross entropies on the tokens of the tokenizer as it is, which gets no gradient: of all
    tokens but the first frame's first one, of the sign of r_{t+1}, of terminated_{t+1}.

    The stage follows from the step alone (:meth:`before_update`): the tokenizer for the first ``tokenizer_steps``; then
    the transformer, with the tokenizer again at every ``tokenizer_every``-th update. Outside a training loop, say which
    with :attr:`stage`, and where codes are revived call :meth:`after_update` too.

    Sequences may be longer than the context, and cross from episode to episode: they are cut into pieces of the
    context's length, each of which counts up to its first end of an episode. The rest of that piece is left out.

    Keys read (rename with ``set_keys``): the image, ``action``, ``is_init``; under ``next`` the image, ``reward``,
    ``terminated``, ``done``. Honoured where present: ``("collector", "mask")`` and ``priority_weight``.

    Keys written: in the tokenizer's stage ``loss_absolute``, ``loss_squared``, ``loss_worst``, ``loss_commitment``,
    with a perceptual distance ``loss_perceptual``, and ``perplexity`` detached, of the batch's codes; in the other
    ``loss_tokens``, ``loss_reward``, ``loss_termination``, and ``accuracy`` of the tokens detached.

    Args:
        world_model: an :class:`~wmcomponents.models.IRIS`, or one made of the same parts.
        config: numbers of the losses; the paper's if not given.
        optimizer: learning rates; the paper's if not given.
        perceptual: distance of images, such as :class:`~wmcomponents.nn.LPIPS`; left out if not given.
        seed: of the choice of frames.
        reduction: of the losses: ``"mean"`` (weighted), ``"sum"`` or ``"none"`` (``[frames, 1]`` in the tokenizer's
            stage; in the other ``[P, M]`` of the pieces, of their tokens ``[P, M * K - 1]``). Diagnostics are means.

    Raises:
        TypeError: if the model is not made of these parts, or codes are to be revived that no codebook holds.
        ValueError: for an unknown reduction, or stages that cannot be; on call, if the sequences have no batch
            ``[B, T]``.
        KeyError: on call, if a key is missing.

    Reference: Micheli et al. (2023), section 2.1, 2.2, appendix A.
    """

    transformer = TokenTransformer
    config_class = IRISLossConfig

    def _written(self) -> list[NestedKey]:
        if self._stage == "tokenizer":
            return self._of_tokenizer()
        return ["loss_tokens", "loss_reward", "loss_termination", "accuracy"]

    # -- the losses ----------------------------------------------------------------------------------------------------

    def transformer_elements(self, tensordict: TensorDictBase) -> Terms:
        """The terms of the transformer's stage, of sequences ``[B, T]``."""
        return self.transformer_terms(self.segments(tensordict))

    def transformer_terms(self, segments: TokenPieces) -> Terms:
        """Losses and diagnostics of the transformer, each ``[P, M]``; of the tokens ``[P, M * K - 1]``.

        Nothing came before a piece's first token, so that one is not foretold.

        Args:
            segments: pieces of sequences.
        """
        logits, rewards, ends = self.world_model.dynamics.compute(segments.tokens, segments.action)
        # The logits behind a piece's last action are of a frame that is not there.
        predicted, target = logits.flatten(1, 2)[:, :-1], segments.tokens.flatten(1)[:, 1:]
        losses = {
            "tokens": cross_entropy(predicted, target),
            "reward": self.world_model.rewards.loss(rewards, segments.reward),
            "termination": cross_entropy(ends, segments.terminated),
        }
        each = segments.weight.repeat_interleave(segments.tokens.shape[-1], 1)[:, 1:]
        weights = {
            "tokens": each,
            "accuracy": each,
            "reward": segments.weight,
            "termination": segments.weight,
        }
        return Terms(losses, {"accuracy": (predicted.argmax(-1) == target).to(predicted.dtype)}, weights)

    def segments(self, tensordict: TensorDictBase) -> TokenPieces:
        """The pieces of a batch of sequences ``[B, T]``, in tokens of the tokenizer as it is."""
        model, keys = self.world_model, self.tensor_keys
        steps = self.transitions(tensordict, self.observation_keys)
        length = min(model.dynamics.max_frames, tensordict.batch_size[1])
        return TokenPieces(
            pieces(model.tokenizer.tokens(tensordict.get(self.observation_keys[0])), length),
            pieces(model.action_token(tensordict.get(keys.action)), length),
            pieces(steps.reward, length),
            pieces(steps.terminated.long(), length),
            kept_weight(steps, length),
        )
