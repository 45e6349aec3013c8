"""From latent states to observations."""

from wmcomponents.decoders.batch_norm_conv import BatchNormConvDecoder as BatchNormConvDecoder
from wmcomponents.decoders.board import BoardDecoder as BoardDecoder
from wmcomponents.decoders.conv import ConvDecoder as ConvDecoder
from wmcomponents.decoders.features import FeatureDecoder as FeatureDecoder
from wmcomponents.decoders.features import Quadrupling as Quadrupling
from wmcomponents.decoders.mlp import MLPDecoder as MLPDecoder
from wmcomponents.decoders.multi import MultiDecoder as MultiDecoder
from wmcomponents.decoders.transposed import TransposedConvDecoder as TransposedConvDecoder
from wmcomponents.decoders.vae import VAEDecoder as VAEDecoder
