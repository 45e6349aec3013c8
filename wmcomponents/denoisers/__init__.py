"""From noise and context to images, or to their latents."""

from wmcomponents.denoisers.cdit import CDiT as CDiT
from wmcomponents.denoisers.dit import DiT as DiT
from wmcomponents.denoisers.dit import DiTSize as DiTSize
from wmcomponents.denoisers.edm import EDMDenoiser as EDMDenoiser
from wmcomponents.denoisers.film_unet import FilmUNet as FilmUNet
from wmcomponents.denoisers.network import FrameNetwork as FrameNetwork
from wmcomponents.denoisers.space_time_dit import SpaceTimeDiT as SpaceTimeDiT
from wmcomponents.denoisers.space_time_dit import appended as appended
from wmcomponents.denoisers.vector_sequence import VectorSequenceDenoiser as VectorSequenceDenoiser
