"""What a DIAMOND carries and what noise it needs, by the sizes of its models."""

import torch
from torchrl.data import Bounded, Composite, TensorSpec, Unbounded

from wmcomponents.models.diffusion.diamond.config import DiamondNetworkConfig

Shape = tuple[int, int, int]
"""(H, W, C) of a frame."""


def small_shape(config: DiamondNetworkConfig, shape: Shape) -> Shape:
    """Shape of the frames that the denoiser draws, for an environment that shows frames of another, maybe larger, one.

    Raises:
        ValueError: if an upsampler's factor does not divide the sides.
    """
    height, width, channels = shape
    factor = 1 if config.upsampler is None else config.upsampler.factor
    if height % factor or width % factor:
        raise ValueError(f"an upsampler by {factor} shows sides that {factor} divides; got {height} x {width}.")
    return height // factor, width // factor, channels


def check_network(config: DiamondNetworkConfig) -> None:
    """Refuse models that do not fit each other.

    Raises:
        ValueError: if the denoiser sees no frame, or the upsampler is asked for what it does not do.
    """
    if config.context < 1:
        raise ValueError(f"the denoiser sees at least one frame; got context={config.context}.")
    up = config.upsampler
    if up is not None and up.context > config.context:
        raise ValueError(
            f"the upsampler sees no more past frames than the denoiser; got {up.context} and {config.context}: change "
            f"upsampler.context or context."
        )
    if up is not None and up.sampler.s_cond > 0:
        raise ValueError(
            f"the upsampler's past frames carry no noise; got s_cond={up.sampler.s_cond}: set it in the sampler of "
            f"small frames, or to 0 here."
        )


def state_spec(config: DiamondNetworkConfig, small: Shape, large: Shape, action: int) -> Composite:
    """The last frames and actions, and the memory of the model of reward and end.

    Args:
        config: sizes of the models.
        small: shape of the frames that the denoiser draws.
        large: shape of the frames that the environment shows.
        action: size of an action's vector.
    """
    entries: dict[str, TensorSpec] = {
        "frames": _bytes(config.context, small),
        "seen": Bounded(0, config.context, torch.Size([1]), dtype=torch.int64),
    }
    if config.context > 1:
        entries["actions"] = Unbounded(torch.Size([config.context - 1, action]))
    if config.reward_end is not None:
        entries |= {key: Unbounded(torch.Size([config.reward_end.hidden])) for key in ("h", "c")}
    if config.upsampler is not None:
        entries["large"] = _bytes(config.upsampler.context, large)
    return Composite(entries)


def noise_spec(config: DiamondNetworkConfig, small: Shape, large: Shape) -> Composite:
    """The noise of a dream's step: only what its samplers use.

    Args:
        config: sizes of the models, and how frames are drawn.
        small: shape of the frames that the denoiser draws.
        large: shape of the frames that the environment shows.
    """
    sampler = config.sampler
    entries: dict[str, TensorSpec] = {"frame": Unbounded(torch.Size(small))}
    if sampler.churns:
        entries["churn"] = Unbounded(torch.Size((sampler.steps, *small)))
    if sampler.s_cond > 0:
        entries["context_noise"] = Unbounded(torch.Size((sampler.steps, config.context, *small)))
    if config.reward_end is not None:
        entries["reward"] = Bounded(0, 1, torch.Size([1]))
    if config.upsampler is not None:
        entries["large_frame"] = Unbounded(torch.Size(large))
        if config.upsampler.sampler.churns:
            entries["large_churn"] = Unbounded(torch.Size((config.upsampler.sampler.steps, *large)))
    return Composite(observe=Composite(), imagine=Composite(entries))


def _bytes(count: int, shape: Shape) -> TensorSpec:
    return Bounded(0, 255, torch.Size((count, *shape)), dtype=torch.uint8)
