"""An SB3 feature extractor for anything."""

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor


class Flat(BaseFeaturesExtractor):
    """For images below the 36x36 that SB3's own extractor needs."""

    def __init__(self, space):
        super().__init__(space, sum(spaces.flatdim(entry) for entry in space.values()))

    def forward(self, observations):
        return torch.cat([value.flatten(1) for value in observations.values()], 1)
