"""Symmetric logarithm and its inverse (DreamerV3, eq. 9): TorchRL's, which agree with the paper and with its code."""

from torchrl.modules.functional import symexp as symexp
from torchrl.modules.functional import symlog as symlog
