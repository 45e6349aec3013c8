"""Blocks without reinforcement-learning meaning."""

from wmcomponents.nn.activation import Activation as Activation
from wmcomponents.nn.activation import make_activation as make_activation
from wmcomponents.nn.block_linear import BlockLinear as BlockLinear
from wmcomponents.nn.conv import ChannelNormAct as ChannelNormAct
from wmcomponents.nn.conv import PoolStage as PoolStage
from wmcomponents.nn.conv import StrideStage as StrideStage
from wmcomponents.nn.conv import UpsampleConv as UpsampleConv
from wmcomponents.nn.conv import conv2d as conv2d
from wmcomponents.nn.init import linear as linear
from wmcomponents.nn.init import trunc_normal_init_ as trunc_normal_init_
from wmcomponents.nn.mlp import MLP as MLP
from wmcomponents.nn.mlp import Dense as Dense
from wmcomponents.nn.norm import LayerNorm as LayerNorm
from wmcomponents.nn.norm import Norm as Norm
from wmcomponents.nn.norm import RMSNorm as RMSNorm
from wmcomponents.nn.norm import make_norm as make_norm
from wmcomponents.nn.observation import Observation as Observation
from wmcomponents.nn.observation import describe_observation as describe_observation
from wmcomponents.nn.observation import describe_observations as describe_observations
from wmcomponents.nn.transforms import Standardize as Standardize
from wmcomponents.nn.transforms import Symlog as Symlog
