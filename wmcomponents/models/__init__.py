"""World models, one file a paper."""

from wmcomponents.models.dreamer_v3 import DreamerV3 as DreamerV3
from wmcomponents.models.dreamer_v3 import DreamerV3Config as DreamerV3Config
from wmcomponents.models.rssm_world_model import RSSMWorldModel as RSSMWorldModel
from wmcomponents.pretrained import PretrainedModel

MODELS: dict[str, type[PretrainedModel]] = {"DreamerV3": DreamerV3}
"""Families by the name that their saved config carries."""

OFFICIAL: dict[str, type[PretrainedModel]] = {}
"""Families that read the checkpoints of a paper's own repository (``from_official``), by that repository's name."""
