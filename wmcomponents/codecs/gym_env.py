"""A Gymnasium environment as a TorchRL one, its spaces read exactly."""

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torchrl.data import Composite, Unbounded
from torchrl.envs import GymWrapper

from wmcomponents.codecs.entry import SpaceError
from wmcomponents.codecs.entry_codec import EntryCodec
from wmcomponents.codecs.spaces import action_spec_from_space, names_of, observation_spec_from_space

CPU = torch.device("cpu")


class ExactGymWrapper(GymWrapper):
    """TorchRL's ``GymWrapper`` with the library's own reading of spaces.

    TorchRL's counts every choice from 0, calls an entry ``state`` ``observation``, gives an environment with a scalar
    ``Box`` a vector, and knows no ``MultiDiscrete`` or ``MultiBinary`` of more axes. Here what the environment shows
    and takes are exactly members of its spaces; double precision becomes float32. It is made as ``GymWrapper`` is, of a
    single environment.

    Raises:
        SpaceError: if a space cannot be modelled.
    """

    def _make_specs(self, env: Any, batch_size: Any = None) -> None:
        if self._is_batched:
            raise SpaceError(
                "a vector environment is one object with many rows; wrap it in TorchRL's own GymWrapper, or pass what "
                "makes a single environment, with num_envs."
            )
        self.exact_observation_spec = observation_spec_from_space(env.observation_space)
        self.exact_action_spec = action_spec_from_space(env.action_space)
        names = names_of(self.exact_observation_spec)
        leaves = self.exact_observation_spec.items()
        self._entries = {key: (names[cast(str, key)], EntryCodec(leaf, CPU)) for key, leaf in leaves}
        self._acts = EntryCodec(self.exact_action_spec, CPU)
        own = {key: leaf.clone().to(self.device or CPU) for key, leaf in leaves}
        self.done_spec = self._make_done_spec()
        self.action_spec = self.exact_action_spec.clone().to(self.device or CPU)
        rewards = self._reward_space(env)
        shape = torch.Size((rewards.shape if rewards is not None else None) or (1,))
        self.reward_spec = Unbounded(shape, device=self.device)
        self.observation_spec = Composite(own, shape=(), device=self.device)

    def read_obs(self, observations: Any) -> dict[str, Any]:
        """What the environment shows, as tensors of their own memory.

        Raises:
            SpaceError: if it is not shaped as the observation space says, or a choice is not one of it.
        """
        bare = not isinstance(observations, dict)
        return {
            str(key): _tensor(observations if bare else observations[name], codec, name)
            for key, (name, codec) in self._entries.items()
        }

    def read_action(self, action: Any) -> Any:
        """A tensor as the member of the action space that it stands for."""
        value = self._acts.write(action.detach().cpu().numpy() if isinstance(action, Tensor) else np.asarray(action))
        return int(value) if self._acts.is_choice and value.ndim == 0 else np.asarray(value)


def _tensor(value: Any, codec: EntryCodec, name: str) -> Tensor:
    array = np.array(value)  # a copy: an environment may write its next observation into the same array
    if array.shape != codec.shape:
        raise SpaceError(
            f"the environment shows {name!r} with shape {array.shape}, and its observation space says {codec.space}."
        )
    if codec.is_choice:
        numbers = (array - codec.start).ravel()
        if (numbers < 0).any() or (numbers >= codec.sizes).any():
            raise SpaceError(f"the environment shows {name!r} as {array.tolist()}, which is not in {codec.space}.")
    return codec.read(torch.from_numpy(array)[None])[0]
