"""Dreams as TorchRL environments, in two forms; and the way back, the filter in front of a real policy."""

from wmcomponents.integrations.torchrl.dreams import TorchRLDreamEnv as TorchRLDreamEnv
from wmcomponents.integrations.torchrl.latent_policy import Filter as Filter
from wmcomponents.integrations.torchrl.latent_policy import FilterPrimer as FilterPrimer
from wmcomponents.integrations.torchrl.latent_policy import LatentPolicy as LatentPolicy
from wmcomponents.integrations.torchrl.stateless import TorchRLStatelessDreamEnv as TorchRLStatelessDreamEnv
