"""From noise and context to images, or to their latents."""

from wmcomponents.denoisers.cdit import CDiT as CDiT
from wmcomponents.denoisers.dit import DiT as DiT
from wmcomponents.denoisers.dit import DiTSize as DiTSize
from wmcomponents.denoisers.edm import EDMDenoiser as EDMDenoiser
from wmcomponents.denoisers.film_unet import FilmUNet as FilmUNet
from wmcomponents.denoisers.mmdit import MMDiT as MMDiT
from wmcomponents.denoisers.mmdit import MMDiTSize as MMDiTSize
from wmcomponents.denoisers.mmdit import told as told
from wmcomponents.denoisers.network import FrameNetwork as FrameNetwork
from wmcomponents.denoisers.output_adapter import AddedMixture as AddedMixture
from wmcomponents.denoisers.output_adapter import MaskedMixture as MaskedMixture
from wmcomponents.denoisers.output_adapter import OutputAdapter as OutputAdapter
from wmcomponents.denoisers.output_adapter import beside_context as beside_context
from wmcomponents.denoisers.space_time_dit import SpaceTimeDiT as SpaceTimeDiT
from wmcomponents.denoisers.space_time_dit import appended as appended
from wmcomponents.denoisers.stdit3 import STDiT3 as STDiT3
from wmcomponents.denoisers.vector_sequence import VectorSequenceDenoiser as VectorSequenceDenoiser
