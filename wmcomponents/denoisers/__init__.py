"""From noise and context to images."""

from wmcomponents.denoisers.edm import EDMDenoiser as EDMDenoiser
from wmcomponents.denoisers.network import FrameNetwork as FrameNetwork
