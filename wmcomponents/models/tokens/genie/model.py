"""Genie (Bruce et al., Genie: Generative Interactive Environments, 2024)."""

from torchrl.data import Composite, OneHot, TensorSpec

from wmcomponents.codecs.image_spec import image_of
from wmcomponents.functional.patches import patch_grid
from wmcomponents.models.tokens.film_world import UnlabelledFilmWorld, decoding_of
from wmcomponents.models.tokens.genie.config import GenieConfig
from wmcomponents.models.tokens.genie.parts import action_model_of, dynamics_of, outcomes_of, tokenizer_of
from wmcomponents.models.tokens.latent_film_objective import FilmLoss


class Genie(UnlabelledFilmWorld):
    """Genie: a world that is played by codes of what changes, learned from films without actions.

    A tokenizer makes tokens of frames, causal in time; a latent action model tells by one of a few codes what led from
    frame to frame; the dynamics draw the next frame's tokens in a few rounds, given the past and a code. Its actions
    are the codes: ``action_spec`` is a one-hot choice of ``config.network.action_model.actions``, whatever the
    environment's is. Which code does what is told by :func:`wmcomponents.dream.code_effects`; an agent with the
    environment's own actions plays through :class:`wmcomponents.dream.MappedActions`.

    State: ``frames`` uint8 ``[*B, W, H, W, C]``, the last frames, oldest first; ``tokens`` int64 ``[*B, W, N]``;
    ``led`` float ``[*B, W, K]``, the code that led to each, one-hot, zeros for none; ``filled`` int64 ``[*B, 1]``, how
    many frames there are. Positions are counted from the window's first frame, so that keys and values cannot outlive
    a step once it is full: each step reads the past once, and all rounds of the new frame look at these keys and
    values; until it is full, ``cached=True`` keeps them in the state (``kv_cache`` and ``cached``), which
    :meth:`imagine_inplace` writes into. Features: the codes of the newest frame.

    The paper's predicts no reward and no end: pass ``reward=`` to a dream. With ``outcome_blocks`` above 0 a part of
    our own foretells both from the tokens and the codes, and is trained beside the dynamics.

    Args:
        config: sizes; a preset such as ``GenieConfig.coinrun()``, varied with its keyword arguments.
        observation_spec: spec of one real observation: one uint8 image, which patches fill.
        action_spec: of the environment; not looked at.

    Raises:
        ValueError: if the observation is no such image, or sizes do not fit each other.

    Example:
        >>> import torch
        >>> from torchrl.data import Bounded
        >>> image = Composite(pixels=Bounded(0, 255, (8, 8, 3), dtype=torch.uint8))
        >>> model = Genie(GenieConfig.tiny(actions=5), image)
        >>> model.action_spec.space.n, sorted(model.capabilities)
        (5, ['decode', 'features', 'objective'])
    """

    config_class = GenieConfig
    config: GenieConfig

    def __init__(self, config: GenieConfig, observation_spec: Composite, action_spec: TensorSpec | None = None) -> None:
        net = config.network
        image_key, shape = image_of(observation_spec, "Genie")
        rows, columns = patch_grid(shape[:2], (net.tokenizer.patch, net.tokenizer.patch))
        if net.action_model.actions < 2:
            raise ValueError(f"there is something to choose from 2 codes on; got actions={net.action_model.actions}.")
        decoding = decoding_of(net.dynamics)
        super().__init__(
            observation_spec=observation_spec,
            action_spec=OneHot(net.action_model.actions),
            frames=net.frames,
            shape=shape,
            tokens=rows * columns,
            vocabulary=net.tokenizer.vocabulary,
            rounds=decoding.steps,
            reveals_randomly=net.dynamics.reveal == "random",
        )
        self.config, self.image_key, self.decoding = config, image_key, decoding
        self.tokenizer = tokenizer_of(net.tokenizer, net, shape, image_key)
        self.action_model = action_model_of(net.action_model, net, shape, image_key)
        self.dynamics = dynamics_of(net, rows * columns)
        self.outcomes = outcomes_of(net, rows * columns)
        if net.dynamics.cached:
            self.keep_cache()

    def objective(self) -> FilmLoss:
        """The paper's losses for this model: the tokenizer's first, then those of actions and dynamics."""
        return FilmLoss(self, self.config.loss, optimizer=self.config.optimizer)
