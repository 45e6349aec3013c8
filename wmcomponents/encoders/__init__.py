"""From observations to embeddings."""

from wmcomponents.encoders.board import BoardEncoder as BoardEncoder
from wmcomponents.encoders.conv import ConvEncoder as ConvEncoder
from wmcomponents.encoders.mlp import MLPEncoder as MLPEncoder
from wmcomponents.encoders.multi import MultiEncoder as MultiEncoder
from wmcomponents.encoders.representation import ConvRepresentation as ConvRepresentation
from wmcomponents.encoders.representation import MLPRepresentation as MLPRepresentation
from wmcomponents.encoders.representation import StateRepresentation as StateRepresentation
from wmcomponents.encoders.simnorm_encoder import ShallowConvEncoder as ShallowConvEncoder
from wmcomponents.encoders.simnorm_encoder import SimNormEncoder as SimNormEncoder
from wmcomponents.encoders.vae import VAEEncoder as VAEEncoder
