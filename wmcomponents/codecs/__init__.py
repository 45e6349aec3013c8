"""How an environment's numbers become tensors and back: its spaces as torchrl specs, entry by entry."""

from wmcomponents.codecs.bounds import ActionBounds as ActionBounds
from wmcomponents.codecs.bounds import all_finite as all_finite
from wmcomponents.codecs.entry import EntryCodec as EntryCodec
from wmcomponents.codecs.entry import Real as Real
from wmcomponents.codecs.entry import SpaceError as SpaceError
from wmcomponents.codecs.entry import check_real as check_real
from wmcomponents.codecs.entry import marked as marked
from wmcomponents.codecs.entry import real_of as real_of
from wmcomponents.codecs.entry import space_of as space_of
from wmcomponents.codecs.environments import action_spec as action_spec
from wmcomponents.codecs.environments import is_environment as is_environment
from wmcomponents.codecs.environments import is_gymnasium as is_gymnasium
from wmcomponents.codecs.environments import observation_spec as observation_spec
from wmcomponents.codecs.environments import specs_from as specs_from
from wmcomponents.codecs.gym_env import ExactGymWrapper as ExactGymWrapper
from wmcomponents.codecs.spaces import action_spec_from_space as action_spec_from_space
from wmcomponents.codecs.spaces import is_space as is_space
from wmcomponents.codecs.spaces import names_of as names_of
from wmcomponents.codecs.spaces import observation_spec_from_space as observation_spec_from_space
from wmcomponents.codecs.spaces import space_from_spec as space_from_spec
