"""GenieRedux and GenieRedux-G (Kazemi et al., 2024; Savov et al., 2025)."""

from typing import Any

from torch import Tensor
from torchrl.data import Composite, OneHot, TensorSpec

from wmcomponents.codecs import ActionVector
from wmcomponents.codecs.image_spec import image_of
from wmcomponents.models.tokens.film_objective import GuidedFilmLoss
from wmcomponents.models.tokens.film_world import FilmTokenWorld, UnlabelledFilmWorld, decoding_of
from wmcomponents.models.tokens.genie_redux.config import GenieReduxConfig, GenieReduxGConfig, ReduxGuidedNetworkConfig
from wmcomponents.models.tokens.genie_redux.parts import (
    JOINS_ADDED,
    JOINS_BESIDE,
    action_model_of,
    dynamics_of,
    outcomes_of,
    tokenizer_of,
)
from wmcomponents.models.tokens.latent_film_objective import FilmLoss


class GenieRedux(UnlabelledFilmWorld):
    """GenieRedux: a Genie of other blocks, whose positions come of convolutions and distances.

    Everything is as in :class:`~wmcomponents.models.Genie` but for the networks: attention that compares directions, a
    feed-forward behind either attention, maps of their own for a film's first frame, and no squashed pixels.

    Args:
        config: sizes; a preset such as ``GenieReduxConfig.coinrun()``, varied with its keyword arguments.
        observation_spec: spec of one real observation: one uint8 image, which patches fill.
        action_spec: of the environment; not looked at.

    Raises:
        ValueError: if the observation is no such image, or sizes do not fit each other.

    Reference: Kazemi et al., Learning Generative Interactive Environments by Trained Agent Exploration (2024).

    Example:
        >>> import torch
        >>> from torchrl.data import Bounded
        >>> image = Composite(pixels=Bounded(0, 255, (8, 8, 3), dtype=torch.uint8))
        >>> GenieRedux(GenieReduxConfig.tiny(), image).action_spec.space.n
        6
    """

    config_class = GenieReduxConfig
    config: GenieReduxConfig

    def __init__(
        self, config: GenieReduxConfig, observation_spec: Composite, action_spec: TensorSpec | None = None
    ) -> None:
        net = config.network
        image_key, shape = image_of(observation_spec, "GenieRedux")
        if net.action_model.actions < 2:
            raise ValueError(f"there is something to choose from 2 codes on; got actions={net.action_model.actions}.")
        tokenizer = tokenizer_of(net, shape, image_key)
        super().__init__(
            action_spec=OneHot(net.action_model.actions), **_frame(net, observation_spec, tokenizer.length)
        )
        self.config, self.image_key = config, image_key
        self.decoding = decoding_of(net.dynamics)
        self.tokenizer = tokenizer
        self.action_model = action_model_of(net.action_model, net.size, shape, image_key)
        self.dynamics = dynamics_of(net, tokenizer, JOINS_ADDED, net.action_model.action_code)
        self.outcomes = outcomes_of(net, tokenizer, net.action_model.action_code)
        if net.dynamics.cached:
            self.keep_cache()

    def objective(self) -> FilmLoss:
        """The paper's losses for this model: the tokenizer's first, then those of actions and dynamics."""
        return FilmLoss(self, self.config.loss, optimizer=self.config.optimizer)


class GenieReduxG(FilmTokenWorld):
    """GenieRedux-G: the same networks, without an action model: the environment's own actions lead to the frames.

    The vector of an action stands beside every token of the frame that it led to. State and features are those of
    :class:`~wmcomponents.models.Genie`, with action vectors in ``led``.

    Args:
        config: sizes; a preset such as ``GenieReduxGConfig.coinrun()``, varied with its keyword arguments.
        observation_spec: spec of one real observation: one uint8 image, which patches fill.
        action_spec: spec of one real action: a choice, several bits, or numbers.

    Raises:
        ValueError: if the observation is no such image, or sizes do not fit each other.

    Reference: Kazemi et al., Learning Generative Interactive Environments by Trained Agent Exploration (2024); Savov et
    al., Exploration-Driven Generative Interactive Environments (2025).

    Example:
        >>> import torch
        >>> from torchrl.data import Bounded
        >>> image = Composite(pixels=Bounded(0, 255, (8, 8, 3), dtype=torch.uint8))
        >>> sorted(GenieReduxG(GenieReduxGConfig.tiny(), image, OneHot(4)).capabilities)
        ['decode', 'features', 'objective']
    """

    config_class = GenieReduxGConfig
    config: GenieReduxGConfig

    def __init__(self, config: GenieReduxGConfig, observation_spec: Composite, action_spec: TensorSpec) -> None:
        net = config.network
        image_key, shape = image_of(observation_spec, "GenieRedux-G")
        tokenizer = tokenizer_of(net, shape, image_key)
        super().__init__(action_spec=action_spec, **_frame(net, observation_spec, tokenizer.length))
        self.config, self.image_key = config, image_key
        self.decoding = decoding_of(net.dynamics)
        self.tokenizer = tokenizer
        self.dynamics = dynamics_of(net, tokenizer, JOINS_BESIDE, ActionVector(action_spec).size)
        self.outcomes = outcomes_of(net, tokenizer, ActionVector(action_spec).size)
        if net.dynamics.cached:
            self.keep_cache()

    def action_code(self, vector: Tensor) -> Tensor:
        """The vector itself."""
        return vector

    def objective(self) -> GuidedFilmLoss:
        """The paper's losses for this model: the tokenizer's first, then those of the dynamics."""
        return GuidedFilmLoss(self, self.config.loss, optimizer=self.config.optimizer)


def _frame(net: ReduxGuidedNetworkConfig, observation_spec: Composite, tokens: int) -> dict[str, Any]:
    """What the base is told of the sizes."""
    (leaf,) = observation_spec.values()
    return {
        "observation_spec": observation_spec,
        "frames": net.size.frames,
        "shape": leaf.shape,
        "tokens": tokens,
        "vocabulary": net.tokenizer.vocabulary,
        "rounds": net.dynamics.rounds,
        "reveals_randomly": net.dynamics.reveal == "random",
    }
