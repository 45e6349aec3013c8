"""World-model components for PyTorch: parts, protocol, and dreams as environments.

Importing this package imports torch, tensordict and torchrl; adapters to other libraries load when they are imported.
"""

from wmcomponents.saving import load as load
from wmcomponents.world_model import CapabilityError as CapabilityError
from wmcomponents.world_model import Prediction as Prediction
from wmcomponents.world_model import WorldModel as WorldModel

__version__ = "0.1.0"
