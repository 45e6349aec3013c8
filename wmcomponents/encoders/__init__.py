"""From observations to embeddings."""

from wmcomponents.encoders.batch_norm_conv import BatchNormConvEncoder as BatchNormConvEncoder
from wmcomponents.encoders.board import BoardEncoder as BoardEncoder
from wmcomponents.encoders.conv import ConvEncoder as ConvEncoder
from wmcomponents.encoders.frozen import FrozenEncoder as FrozenEncoder
from wmcomponents.encoders.frozen import called as called
from wmcomponents.encoders.frozen import dinov2_patches as dinov2_patches
from wmcomponents.encoders.frozen import still_clip as still_clip
from wmcomponents.encoders.frozen import timm_patches as timm_patches
from wmcomponents.encoders.frozen import transformers_patches as transformers_patches
from wmcomponents.encoders.frozen import vit_patches as vit_patches
from wmcomponents.encoders.impala import ImpalaEncoder as ImpalaEncoder
from wmcomponents.encoders.mlp import MLPEncoder as MLPEncoder
from wmcomponents.encoders.multi import MultiEncoder as MultiEncoder
from wmcomponents.encoders.representation import ConvRepresentation as ConvRepresentation
from wmcomponents.encoders.representation import MLPRepresentation as MLPRepresentation
from wmcomponents.encoders.representation import StateRepresentation as StateRepresentation
from wmcomponents.encoders.simnorm_encoder import ShallowConvEncoder as ShallowConvEncoder
from wmcomponents.encoders.simnorm_encoder import SimNormEncoder as SimNormEncoder
from wmcomponents.encoders.vae import VAEEncoder as VAEEncoder
from wmcomponents.encoders.vit import ViTEncoder as ViTEncoder
from wmcomponents.encoders.vit import class_token as class_token
from wmcomponents.encoders.vit import mean_of_patches as mean_of_patches
from wmcomponents.encoders.vit import patch_tokens as patch_tokens
