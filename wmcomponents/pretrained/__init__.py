"""Models on disk: safetensors weights beside a config.json that carries their hash. Nothing is ever unpickled."""

from wmcomponents.pretrained.building import unlike_weights as unlike_weights
from wmcomponents.pretrained.files import StrictFolder as StrictFolder
from wmcomponents.pretrained.files import replacing as replacing
from wmcomponents.pretrained.folder import BadModelError as BadModelError
from wmcomponents.pretrained.folder import SavedModel as SavedModel
from wmcomponents.pretrained.folder import from_one_save as from_one_save
from wmcomponents.pretrained.folder import read_config as read_config
from wmcomponents.pretrained.key_map import Rule as Rule
from wmcomponents.pretrained.key_map import count_of as count_of
from wmcomponents.pretrained.key_map import load_mapped as load_mapped
from wmcomponents.pretrained.key_map import map_keys as map_keys
from wmcomponents.pretrained.key_map import section as section
from wmcomponents.pretrained.key_map import shape_of as shape_of
from wmcomponents.pretrained.model import PretrainedModel as PretrainedModel
from wmcomponents.pretrained.model_config import ModelConfig as ModelConfig
from wmcomponents.pretrained.module import PretrainedModule as PretrainedModule
from wmcomponents.pretrained.specs import spec_from_json as spec_from_json
from wmcomponents.pretrained.specs import spec_to_json as spec_to_json
