"""The weights of p-doom/jasmine and 1x-technologies/1xgpt as our parts have them."""

import torch
from torch import Tensor, nn

from wmcomponents.dynamics import MaskedEmbedding, MaskGITDynamics, PrependedActions
from wmcomponents.nn import LearnedCosineQuantizer, SinusoidalFilmPositions, STBlock, STTransformer, jasmine_block
from wmcomponents.tokenizers import ActionTokenEncoder, LatentActionModel

Weights = dict[str, Tensor]
BRANCHES = {"spatial": 0, "temporal": 1}


def below(tensors: Weights, prefix: str) -> Weights:
    """The tensors under a prefix, without it."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def linear(tensors: Weights, name: str) -> Weights:
    """A dense layer as torch has it."""
    return {"weight": tensors[f"{name}.kernel"].T, "bias": tensors[f"{name}.bias"]}


def norm(tensors: Weights, name: str) -> Weights:
    """A layer norm as torch has it."""
    return {"weight": tensors[f"{name}.scale"], "bias": tensors[f"{name}.bias"]}


def named(prefix: str, tensors: Weights) -> Weights:
    return {f"{prefix}.{key}": value for key, value in tensors.items()}


def jasmine_block_weights(tensors: Weights) -> Weights:
    """Those of an ``AxialBlock``."""
    found = {}
    for kind, number in BRANCHES.items():
        part = f"branches.{number}"
        found |= named(f"{part}.norm", norm(tensors, f"{kind}_norm"))
        three = [tensors[f"{kind}_attention.{name}.kernel"].flatten(1).T for name in ("query", "key", "value")]
        biases = [tensors[f"{kind}_attention.{name}.bias"].flatten() for name in ("query", "key", "value")]
        found[f"{part}.attention.qkv.weight"], found[f"{part}.attention.qkv.bias"] = torch.cat(three), torch.cat(biases)
        found[f"{part}.attention.proj.weight"] = tensors[f"{kind}_attention.out.kernel"].flatten(0, 1).T
        found[f"{part}.attention.proj.bias"] = tensors[f"{kind}_attention.out.bias"]
    found |= named("branches.2.norm", norm(tensors, "ffn_norm"))
    found |= named("branches.2.net.0", linear(tensors, "ffn_dense1"))
    return found | named("branches.2.net.2", linear(tensors, "ffn_dense2"))


def jasmine_transformer(tensors: Weights, frames: int, tokens: int, heads: int) -> STTransformer:
    """An ``AxialTransformer`` with its weights."""
    size, dim = tensors["input_dense.kernel"].shape
    hidden, out = tensors["blocks.0.ffn_dense1.kernel"].shape[1], tensors["output_dense.kernel"].shape[1]
    count = len({key.split(".")[1] for key in tensors if key.startswith("blocks.")})
    net = STTransformer(
        nn.Sequential(nn.LayerNorm(size, 1e-6), nn.Linear(size, dim), nn.LayerNorm(dim, 1e-6)),
        SinusoidalFilmPositions(frames, tokens, dim),
        [jasmine_block(dim, heads, hidden) for _ in range(count)],
        nn.Linear(dim, out),
    )
    weights = named("map_in.0", norm(tensors, "input_norm1")) | named("map_in.1", linear(tensors, "input_dense"))
    weights |= named("map_in.2", norm(tensors, "input_norm2")) | named("map_out", linear(tensors, "output_dense"))
    for number in range(count):
        weights |= named(f"blocks.{number}", jasmine_block_weights(below(tensors, f"blocks.{number}.")))
    net.load_state_dict(weights)
    return net


def jasmine_dynamics(tensors: Weights, frames: int, tokens: int, heads: int) -> MaskGITDynamics:
    """A ``DynamicsMaskGIT`` with its weights."""
    embedding = MaskedEmbedding(*tensors["patch_embed.embedding"].shape)
    embedding.load_state_dict({
        "embedding.weight": tensors["patch_embed.embedding"], "mask": tensors["mask_token"].flatten()
    })  # fmt: skip
    joining = PrependedActions(embedding.dim, len(tensors["action_up.kernel"]))
    joining.map.load_state_dict(linear(tensors, "action_up"))
    transformer = jasmine_transformer(below(tensors, "transformer."), frames, tokens + 1, heads)
    return MaskGITDynamics(embedding, joining, transformer)


def jasmine_actions(tensors: Weights, shape: tuple[int, int, int], patch: int, frames: int, heads: int):
    """A ``LatentActionModel`` with its weights."""
    tokens = shape[0] // patch * (shape[1] // patch)
    codes, size = tensors["vq.codebook"].shape
    dim = tensors["patch_up.kernel"].shape[1]
    encoder = jasmine_transformer(below(tensors, "encoder."), frames, tokens + 1, heads)
    decoder = jasmine_transformer(below(tensors, "decoder."), frames, tokens, heads)
    embedding = nn.Linear(tensors["patch_up.kernel"].shape[0], dim)
    model = LatentActionModel(
        shape,
        patch,
        ActionTokenEncoder(tensors["action_in"].numel(), encoder),
        embedding,
        decoder,
        LearnedCosineQuantizer(codes, size),
        dim=dim,
    )
    embedding.load_state_dict(linear(tensors, "patch_up"))
    model.action_map.load_state_dict(linear(tensors, "action_up"))
    with torch.no_grad():
        model.encoder.token.copy_(tensors["action_in"].flatten())  # pyright: ignore[reportCallIssue]
        model.quantizer.codebook.copy_(tensors["vq.codebook"])  # pyright: ignore[reportAttributeAccessIssue]
    return model


def load_onexgpt_block(block: STBlock, tensors: Weights) -> STBlock:
    """The weights of an ``STBlock``, with the norms of queries and keys or those of branches, whichever there are."""
    weights = {}
    for name, number in (("spatial_attn", 0), ("temporal_attn", 1)):
        shares = f"{name}.norm.weight" in tensors
        part = f"branches.{number}.attention" + (".attention" if shares else "")
        for key in ("qkv.weight", "qkv.bias", "proj.weight", "proj.bias"):
            if f"{name}.{key}" in tensors:
                weights[f"{part}.{key}"] = tensors[f"{name}.{key}"]
        if shares:
            weights |= named(f"branches.{number}.attention.norm", below(tensors, f"{name}.norm."))
    for name, number in (("norm1", 0), ("norm2", 2)):
        if f"{name}.weight" in tensors:
            weights |= named(f"branches.{number}.norm", below(tensors, f"{name}."))
    weights |= named("branches.2.net.0", below(tensors, "mlp.fc1.")) | named(
        "branches.2.net.3", below(tensors, "mlp.fc2.")
    )
    block.load_state_dict(weights)
    return block
