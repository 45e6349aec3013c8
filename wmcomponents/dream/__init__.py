"""The simulator inside a world model: start states, batched stepping, differentiable imagination."""

from wmcomponents.dream.announce import announce_states as announce_states
from wmcomponents.dream.checks import NotFiniteError as NotFiniteError
from wmcomponents.dream.imagine import compiled_rollout as compiled_rollout
from wmcomponents.dream.imagine import imagine as imagine
from wmcomponents.dream.imagine import latent_policy as latent_policy
from wmcomponents.dream.imagine import tensordict_policy as tensordict_policy
from wmcomponents.dream.make import make_simulator as make_simulator
from wmcomponents.dream.noise import MODE as MODE
from wmcomponents.dream.noise import NoiseUsedUpError as NoiseUsedUpError
from wmcomponents.dream.noise import StepNoise as StepNoise
from wmcomponents.dream.noise import draw_noise as draw_noise
from wmcomponents.dream.options import DreamOptions as DreamOptions
from wmcomponents.dream.options import StepOptions as StepOptions
from wmcomponents.dream.replay_starts import ReplayStarts as ReplayStarts
from wmcomponents.dream.replay_starts import filtered_states as filtered_states
from wmcomponents.dream.replay_starts import last_states as last_states
from wmcomponents.dream.simulator import DreamStep as DreamStep
from wmcomponents.dream.simulator import Simulator as Simulator
from wmcomponents.dream.starts import EmptyStartsError as EmptyStartsError
from wmcomponents.dream.starts import FixedStarts as FixedStarts
from wmcomponents.dream.starts import MixtureStarts as MixtureStarts
from wmcomponents.dream.starts import OrderedStarts as OrderedStarts
from wmcomponents.dream.starts import PoolStarts as PoolStarts
from wmcomponents.dream.starts import PriorStarts as PriorStarts
from wmcomponents.dream.starts import Starts as Starts
