"""Checkpoints of ctallec/world-models, the best known port of World Models to torch: its keys, and ours."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torchrl.data import Bounded, Composite, TensorSpec, Unbounded

from wmcomponents.codecs.action import ActionVector
from wmcomponents.pretrained import BadModelError, Rule, section, shape_of

FILES = {"vae": "vae/best.tar", "mdrnn": "mdrnn/best.tar"}
"""Where the repository's training scripts put them, below their ``logdir``."""

FAMILY = "World Models of ctallec"
GATES = 4


def merged(weights: Mapping[str, Any]) -> dict[str, Tensor]:
    """V's and M's weights in one mapping, as ``vae.*`` and ``mdrnn.*``.

    Args:
        weights: a folder with :data:`FILES`, or a mapping with ``vae`` and ``mdrnn``; each a ``state_dict``, bare or
            under that key beside others.

    Raises:
        BadModelError: if one of the two is missing.
    """
    found = {}
    for part, file in FILES.items():
        inner = section(weights, file if file in weights else part)
        for key, value in section(inner, "state_dict", optional=True).items():
            if not isinstance(value, Tensor) or not value.is_floating_point():  # some are added up further on
                raise BadModelError(f"{key} of {file} is no tensor of floating-point numbers.")
            # The cell of a dream has the sequence's weights without the number of their layer.
            found[f"{part}.{str(key).removesuffix('_l0')}"] = value
    return found


def sizes(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the shapes say: entries of the config, and ``action``, the length of the action.

    Raises:
        BadModelError: if a key that decides a size is missing or has another number of dimensions.
    """
    convs = [shape_of(weights, f"vae.encoder.conv{n}.weight", 4, FAMILY) for n in range(1, 5)]
    deconvs = [shape_of(weights, f"vae.decoder.deconv{n}.weight", 4, FAMILY) for n in range(1, 5)]
    latent = shape_of(weights, "vae.encoder.fc_mu.weight", 2, FAMILY)[0]
    gates, inputs = shape_of(weights, "mdrnn.rnn.weight_ih", 2, FAMILY)
    outputs = shape_of(weights, "mdrnn.gmm_linear.weight", 2, FAMILY)[0]
    components, rest = divmod(outputs - 2, 2 * latent + 1)
    if rest or components < 1 or inputs <= latent or gates % GATES:
        raise BadModelError(
            f"mdrnn.gmm_linear has {outputs} outputs and mdrnn.rnn {inputs} inputs, which do not fit the {latent} "
            f"latent dimensions of the autoencoder: V and M are not of one model."
        )
    return {
        "latent": latent,
        "hidden": gates // GATES,
        "components": components,
        "channels": tuple(shape[0] for shape in convs),
        "decoder_channels": tuple(shape[0] for shape in deconvs),
        "pixels": convs[0][1],
        "action": inputs - latent,
    }


def specs(
    found: Mapping[str, Any], observation_spec: Composite | None, action_spec: TensorSpec | None
) -> tuple[Composite, TensorSpec]:
    """The specs given, or what the repository's own environment shows: 64x64 images, actions taken as they are."""
    if observation_spec is None:
        shape = torch.Size((64, 64, found["pixels"]))
        observation_spec = Composite(pixels=Bounded(0, 255, shape, dtype=torch.uint8))
    return observation_spec, Unbounded(found["action"]) if action_spec is None else action_spec


def translated(weights: Mapping[str, Tensor], found: Mapping[str, Any], action: ActionVector) -> dict[str, Tensor]:
    """The weights with what differs by more than its name made ours.

    The action comes before z there, and unscaled; the LSTM has two biases, and one linear layer for mixture, reward and
    end. Images enter in [0, 1], here around 0.

    Raises:
        BadModelError: if the action's length is another.
    """
    if action.size != found["action"]:
        raise BadModelError(
            f"the model was trained on actions of {found['action']} numbers; the action_spec given has {action.size}."
        )
    out = dict(weights)
    reads = out["mdrnn.rnn.weight_ih"]
    from_action, from_z = reads[:, : action.size], reads[:, action.size :]
    bias = out.pop("mdrnn.rnn.bias_ih", None), out.pop("mdrnn.rnn.bias_hh", None)
    if bias[0] is None or bias[1] is None:
        raise BadModelError("mdrnn.rnn lacks bias_ih or bias_hh.")
    total = bias[0] + bias[1]
    if action.center is not None and action.radius is not None:
        total, from_action = total + from_action @ action.center, from_action * action.radius
    out["mdrnn.rnn.bias"], out["mdrnn.rnn.weight_ih"] = total, torch.cat([from_z, from_action], -1)
    for kind in ("weight", "bias"):
        rows = out.pop(f"mdrnn.gmm_linear.{kind}", None)
        if rows is None:
            raise BadModelError(f"mdrnn.gmm_linear lacks its {kind}.")
        for name, part in zip(("mixture", "reward", "end"), rows.split([len(rows) - 2, 1, 1]), strict=True):
            out[f"mdrnn.{name}.{kind}"] = part
    first = "vae.encoder.conv1"
    if f"{first}.bias" in out:
        out[f"{first}.bias"] = out[f"{first}.bias"] + 0.5 * out[f"{first}.weight"].sum((1, 2, 3))
    return out


def _pixels_last(weight: Tensor) -> Tensor:
    """Columns that read a map flattened as (channel, 2, 2), for one flattened as (2, 2, channel)."""
    return weight.unflatten(1, (-1, 2, 2)).permute(0, 2, 3, 1).flatten(1)


RULES = (
    *(
        Rule(rf"vae\.encoder\.conv{n}\.(weight|bias)", rf"encoder.features.conv.stages.{n - 1}.conv.\1")
        for n in range(1, 5)
    ),
    Rule(r"vae\.encoder\.fc_mu\.weight", "encoder.mu.weight", _pixels_last),
    Rule(r"vae\.encoder\.fc_mu\.bias", "encoder.mu.bias"),
    # Its head gives the logarithm of the standard deviation, ours that of the variance.
    Rule(r"vae\.encoder\.fc_logsigma\.weight", "encoder.logvar.weight", lambda weight: 2.0 * _pixels_last(weight)),
    Rule(r"vae\.encoder\.fc_logsigma\.bias", "encoder.logvar.bias", lambda bias: 2.0 * bias),
    Rule(r"vae\.decoder\.fc1\.(weight|bias)", r"decoder.multi.conv.map_in.0.\1"),
    *(
        Rule(rf"vae\.decoder\.deconv{n}\.(weight|bias)", rf"decoder.multi.conv.stages.{n - 1}.conv.\1")
        for n in range(1, 4)
    ),
    Rule(r"vae\.decoder\.deconv4\.(weight|bias)", r"decoder.multi.conv.out.\1"),
    Rule(r"mdrnn\.rnn\.(weight_ih|weight_hh|bias)", r"memory.lstm.\1"),
    Rule(r"mdrnn\.mixture\.(weight|bias)", r"memory.out.\1"),
    Rule(r"mdrnn\.reward\.(weight|bias)", r"reward_head.out.\1"),
    Rule(r"mdrnn\.end\.(weight|bias)", r"termination_head.out.\1"),
)
