"""Vectors as entries of a finite table: learned codebooks, grids, and the care of codes that nobody uses."""

from wmcomponents.nn.quantizers.cosine import CosineQuantizer as CosineQuantizer
from wmcomponents.nn.quantizers.fsq import FSQ as FSQ
from wmcomponents.nn.quantizers.learned_cosine import LearnedCosineQuantizer as LearnedCosineQuantizer
from wmcomponents.nn.quantizers.quantizer import Quantizer as Quantizer
from wmcomponents.nn.quantizers.usage import CodebookUsage as CodebookUsage
from wmcomponents.nn.quantizers.usage import code_counts as code_counts
from wmcomponents.nn.quantizers.usage import farthest_first as farthest_first
from wmcomponents.nn.quantizers.usage import perplexity as perplexity
from wmcomponents.nn.quantizers.usage import revived as revived
from wmcomponents.nn.quantizers.usage import usage_entropy as usage_entropy
from wmcomponents.nn.quantizers.vq import Quantized as Quantized
from wmcomponents.nn.quantizers.vq import VectorQuantizer as VectorQuantizer
from wmcomponents.nn.quantizers.vq import nearest_code as nearest_code
