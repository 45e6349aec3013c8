"""Dreams as TorchRL environments, in two forms; and the way back, the filter in front of a real policy."""

from wmcomponents.integrations.torchrl.dreams import TorchRLDreamEnv as TorchRLDreamEnv
from wmcomponents.integrations.torchrl.stateless import TorchRLStatelessDreamEnv as TorchRLStatelessDreamEnv
from wmcomponents.world_model.filter import Filter as Filter
from wmcomponents.world_model.filter import FilterPrimer as FilterPrimer
from wmcomponents.world_model.filter import LatentPolicy as LatentPolicy
