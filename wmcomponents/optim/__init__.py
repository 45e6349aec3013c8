"""The papers' optimisers, where torch has none that follows their rule."""

from wmcomponents.optim.clipped_adam import ClippedAdam as ClippedAdam
from wmcomponents.optim.clipped_adamw import ClippedAdamW as ClippedAdamW
from wmcomponents.optim.clipped_adamw import decayed_names as decayed_names
from wmcomponents.optim.laprop import LaProp as LaProp
from wmcomponents.optim.scheduled import ScheduledAdam as ScheduledAdam
from wmcomponents.optim.scheduled import ScheduledSGD as ScheduledSGD
from wmcomponents.optim.scheduled import learning_rate_factor as learning_rate_factor
from wmcomponents.optim.scheduled_adamw import ScheduledAdamW as ScheduledAdamW
from wmcomponents.optim.scheduled_adamw import decay_groups as decay_groups
from wmcomponents.optim.side_by_side import SideBySide as SideBySide
