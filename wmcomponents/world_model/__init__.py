"""The protocol that every world model follows, its noise, and the TensorDict form of its verbs."""

from wmcomponents.world_model.filter import Filter as Filter
from wmcomponents.world_model.filter import FilterPrimer as FilterPrimer
from wmcomponents.world_model.filter import LatentPolicy as LatentPolicy
from wmcomponents.world_model.needs import Needs as Needs
from wmcomponents.world_model.noise import Noise as Noise
from wmcomponents.world_model.noise import NoiseSource as NoiseSource
from wmcomponents.world_model.protocol import CAPABILITIES as CAPABILITIES
from wmcomponents.world_model.protocol import PROTOCOL_KEYS as PROTOCOL_KEYS
from wmcomponents.world_model.protocol import CapabilityError as CapabilityError
from wmcomponents.world_model.protocol import MemberPredictions as MemberPredictions
from wmcomponents.world_model.protocol import Observation as Observation
from wmcomponents.world_model.protocol import Prediction as Prediction
from wmcomponents.world_model.protocol import Quantity as Quantity
from wmcomponents.world_model.protocol import State as State
from wmcomponents.world_model.protocol import Verb as Verb
from wmcomponents.world_model.protocol import WorldModel as WorldModel
from wmcomponents.world_model.spec_checks import items_of as items_of
from wmcomponents.world_model.spec_checks import keys_of as keys_of
from wmcomponents.world_model.verb_module import VerbModule as VerbModule
