"""The recurrent state-space model of PlaNet and the Dreamers."""

from collections.abc import Sequence

import torch
from tensordict import NestedKey
from torch import Tensor

from wmcomponents.component import Component
from wmcomponents.dynamics.rssm.block_gru_cell import BlockGRUCell
from wmcomponents.dynamics.rssm.categorical_latent import CategoricalLatent
from wmcomponents.dynamics.rssm.cell import Cell
from wmcomponents.dynamics.rssm.dense_gru_cell import DenseGRUCell
from wmcomponents.dynamics.rssm.filter_scan import filter_scan
from wmcomponents.dynamics.rssm.initial import LearnedInitialState
from wmcomponents.dynamics.rssm.latent import Latent
from wmcomponents.dynamics.rssm.prior_posterior import Posterior, Prior, RecurrentPosterior
from wmcomponents.nn import GatedUnit, Norm
from wmcomponents.nn.layers.activation import Activation


class RSSM(Component):
    """A state of two parts, one recurrent (``deter``), one sampled (``stoch``), that filters and imagines.

    As a component it is one step of imagination; :class:`RSSMObserve` and :class:`RSSMObserveSequence` are its filter.
    Episodes begin at zeros unless a learned state is given. Nothing is mutated and nothing returned aliases an input.

    Keys:
        | key | shape | dtype | |
        |---|---|---|---|
        | "deter" | [*B, D] | float | read |
        | "stoch" | [*B, *latent.shape] | float | read |
        | "action" | [*B, A] | float | read |
        | "noise" | [*B, *latent.noise_shape] | float | read, may be absent: the mode |
        | ("next", "deter") | [*B, D] | float | written |
        | ("next", "stoch") | [*B, *latent.shape] | float | written |
        | ("next", "prior") | [*B, latent.params] | float, raw | written |

    Args:
        cell: map from state and action to the next ``deter``.
        latent: the distribution of ``stoch``.
        prior: map from ``deter`` to raw parameters of the latent.
        posterior: map from ``deter`` and embedding to raw parameters of the latent.
        initial: the state in which episodes begin; None: zeros.
        in_keys: deter, stoch, action, noise.
        out_keys: next deter, next stoch, raw prior.

    Reference: Hafner et al., Learning Latent Dynamics for Planning from Pixels (PlaNet, 2019); Mastering Diverse
    Domains through World Models (DreamerV3, 2024), eq. 3.

    Example:
        >>> import torch
        >>> rssm = RSSM.block_gru(embed=10, action=3, deter=16, hidden=8, groups=4, classes=6, blocks=4)
        >>> deter, stoch = rssm.initial_state((5,))
        >>> deter, stoch, prior = rssm(deter=deter, stoch=stoch, action=torch.zeros(5, 3), noise=torch.rand(5, 4))
        >>> deter.shape, stoch.shape, prior.shape
        (torch.Size([5, 16]), torch.Size([5, 4, 6]), torch.Size([5, 24]))
    """

    def __init__(
        self,
        cell: Cell,
        latent: Latent,
        prior: torch.nn.Module,
        posterior: Posterior,
        initial: LearnedInitialState | None = None,
        in_keys: Sequence[NestedKey] = ("deter", "stoch", "action", "noise"),
        out_keys: Sequence[NestedKey] = (("next", "deter"), ("next", "stoch"), ("next", "prior")),
    ) -> None:
        super().__init__(in_keys, out_keys, optional_keys=in_keys[3:])
        self.cell, self.latent, self.prior, self.posterior = cell, latent, prior, posterior
        self.initial = initial
        self.feat_size = cell.deter + latent.size

    @classmethod
    def block_gru(
        cls,
        embed: int,
        action: int,
        deter: int = 8192,
        hidden: int = 1024,
        groups: int = 32,
        classes: int = 64,
        blocks: int = 8,
        unimix: float = 0.01,
        cell_layers: int = 1,
        prior_layers: int = 2,
        posterior_layers: int = 1,
        norm: Norm = "rms",
        act: Activation = "silu",
        outscale: float = 1.0,
    ) -> "RSSM":
        """DreamerV3's model: block GRU, categorical latent with uniform mixing, posterior on (deter, embed).

        Args:
            embed: size of the observation's embedding.
            action: size of the action vector.
            deter: size of the recurrent state.
            hidden: width of all dense layers.
            groups: categorical variables.
            classes: classes of each.
            blocks: blocks of the recurrent cell.
            unimix: share of the uniform distribution.
            cell_layers: hidden layers of the cell.
            prior_layers: hidden layers of the prior.
            posterior_layers: hidden layers of the posterior.
            norm: normalisation.
            act: activation.
            outscale: factor on the initial weight of the two output layers.
        """
        latent = CategoricalLatent(groups, classes, unimix)
        cell = BlockGRUCell(deter, latent.size, action, hidden, blocks, cell_layers, norm, act)
        prior = Prior(deter, latent.params, hidden, prior_layers, norm, act, outscale)
        posterior = RecurrentPosterior(deter, embed, latent.params, hidden, posterior_layers, norm, act, outscale)
        return cls(cell, latent, prior, posterior)

    @classmethod
    def dense_gru(
        cls,
        embed: int,
        action: int,
        gru: GatedUnit,
        latent: Latent,
        norm: Norm = "none",
        act: Activation = "elu",
        bias: bool = True,
        initial: LearnedInitialState | None = None,
    ) -> "RSSM":
        """The model of PlaNet, Dreamer V1, Dreamer V2 and the first DreamerV3: one dense layer in front of everything.

        The unit, the latent, normalisation and activation tell the papers apart: see :class:`DenseGRUCell`.

        Args:
            embed: size of the observation's embedding.
            action: size of the action vector.
            gru: the recurrent unit; the size of its input is the width of all dense layers.
            latent: the distribution of ``stoch``.
            norm: normalisation of the dense layers.
            act: activation.
            bias: whether the dense layers have biases; the output layers always have.
            initial: the state in which episodes begin; None: zeros.
        """
        units, deter = gru.in_features, gru.size
        cell = DenseGRUCell(latent.size, action, gru, norm, act, bias)
        prior = Prior(deter, latent.params, units, 1, norm, act, bias=bias)
        posterior = RecurrentPosterior(deter, embed, latent.params, units, 1, norm, act, bias=bias)
        return cls(cell, latent, prior, posterior, initial)

    def initial_state(
        self, batch_size: Sequence[int] = (), device: torch.device | str | None = None
    ) -> tuple[Tensor, Tensor]:
        """Where episodes begin: ``deter [*batch_size, D]`` and ``stoch [*batch_size, *latent.shape]``.

        A learned state is on its parameters' device unless one is named, and carries their gradient.
        """
        if self.initial is not None:
            deter, stoch = self.initial(self.prior, self.latent)
            return tuple(x.expand(*batch_size, *x.shape).clone().to(device) for x in (deter, stoch))
        deter = torch.zeros(*batch_size, self.cell.deter, device=device)
        return deter, torch.zeros(*batch_size, *self.latent.shape, device=device)

    def features(self, deter: Tensor, stoch: Tensor) -> Tensor:
        """What heads read: (deter, flat stoch), ``[*B, feat_size]``."""
        return torch.cat([deter, stoch.flatten(-len(self.latent.shape))], -1)

    def imagine_step(
        self, deter: Tensor, stoch: Tensor, action: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One step without observation.

        Args:
            deter: recurrent state, ``[*B, D]``.
            stoch: sample, ``[*B, *latent.shape]``.
            action: action taken in this state, ``[*B, A]``.
            noise: base noise of the sample, ``[*B, *latent.noise_shape]``; None: the mode.

        Returns:
            Next deter, next stoch, raw prior ``[*B, params]``.
        """
        deter = self.cell(deter, stoch.flatten(-len(self.latent.shape)), action)
        raw = self.prior(deter)
        return deter, self.latent.sample(raw, noise), raw

    def observe_step(
        self,
        deter: Tensor,
        stoch: Tensor,
        action: Tensor,
        embed: Tensor,
        is_init: Tensor,
        noise: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One step with an observation.

        Args:
            deter: previous recurrent state, ``[*B, D]``.
            stoch: previous sample, ``[*B, *latent.shape]``.
            action: the one that led to the observation, ``[*B, A]``.
            embed: embedding of the observation, ``[*B, E]``.
            is_init: whether an episode begins with the observation, bool ``[*B, 1]``; then the previous state counts as
                the initial one and the action as zeros, whatever they hold.
            noise: base noise of the sample, ``[*B, *latent.noise_shape]``; None: the mode.

        Returns:
            Deter, stoch, raw posterior ``[*B, params]``.
        """
        flat = stoch.flatten(-len(self.latent.shape))
        deter, flat = _reset(deter, flat, is_init, self._initial_row())
        deter = self.cell(deter, flat, action.masked_fill(is_init, 0.0))
        raw = self.posterior(deter, embed)
        return deter, self.latent.sample(raw, noise), raw

    def observe_sequence(
        self,
        deter: Tensor,
        stoch: Tensor,
        action: Tensor,
        embed: Tensor,
        is_init: Tensor,
        noise: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """T steps with observations; the same as T times :meth:`observe_step`.

        Parts that offer a scan (the standard ones do) run through one whose backward pass is written by hand, which
        takes a half to two thirds of the time of autograd over a loop. ``torch.compile``, autocast and ``vmap`` see the
        loop instead, unrolled over T: compile what follows the filter rather than the filter.

        Args:
            deter: recurrent state before the first step, ``[*B, D]``.
            stoch: sample before the first step, ``[*B, *latent.shape]``.
            action: actions that led to the observations, ``[*B, T, A]``.
            embed: embeddings of the observations, ``[*B, T, E]``.
            is_init: whether an episode begins with each observation, bool ``[*B, T, 1]``.
            noise: base noise of the samples, ``[*B, T, *latent.noise_shape]``; None: the mode.

        Returns:
            Deter ``[*B, T, D]``, stoch ``[*B, T, *latent.shape]``, raw posterior ``[*B, T, params]``.
        """
        lead, time, shape = action.shape[:-2], action.shape[-2], self.latent.shape
        actions = self.cell.prepare(action.masked_fill(is_init, 0.0))
        embeds = self.posterior.prepare(embed)
        stoch = stoch.flatten(-len(shape))

        def time_major(x: Tensor) -> Tensor:
            return x.reshape(-1, *x.shape[len(lead) :]).transpose(0, 1)

        def batch_major(x: Tensor) -> Tensor:
            return x.transpose(0, 1).reshape(*lead, time, x.shape[-1])

        inputs = (
            deter.reshape(-1, deter.shape[-1]),
            stoch.reshape(-1, stoch.shape[-1]),
            time_major(actions),
            time_major(embeds),
            time_major(is_init),
            None if noise is None else time_major(noise),
        )
        if self._can_scan(deter):
            deter, stoch, raw = filter_scan((self.cell, self.posterior, self.latent), *inputs)
        else:
            deter, stoch, raw = self._filter_loop(*inputs)
        return batch_major(deter), batch_major(stoch).unflatten(-1, shape), batch_major(raw)

    def _initial_row(self) -> tuple[Tensor, Tensor] | None:
        """The learned initial state of one row, ``[D]`` and flat ``[S]``; None where it is zeros."""
        if self.initial is None:
            return None
        deter, stoch = self.initial(self.prior, self.latent)
        return deter, stoch.flatten()

    def _can_scan(self, deter: Tensor) -> bool:
        """Whether the hand-written backward pass applies: parts that offer it, plain eager mode, full precision."""
        if self.initial is not None:
            return False
        if torch.compiler.is_compiling() or torch.is_autocast_enabled(deter.device.type):
            return False
        if torch._C._are_functorch_transforms_active():  # vmap and its kin need to see single operations
            return False
        is_plain = self.cell.can_scan and self.posterior.can_scan and self.latent.can_scan
        return is_plain and deter.dtype in (torch.float32, torch.float64)

    def _filter_loop(
        self, deter: Tensor, stoch: Tensor, actions: Tensor, embeds: Tensor, is_init: Tensor, noise: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What :func:`filter_scan` computes, by a plain loop for autograd and the compiler; time-major."""
        noises = [None] * len(actions) if noise is None else noise.unbind()
        initial = self._initial_row()
        steps = []
        for action, embed, start, base in zip(actions.unbind(), embeds.unbind(), is_init.unbind(), noises, strict=True):
            deter = self.cell.step(*_reset(deter, stoch, start, initial), action)
            raw = self.posterior.step(deter, embed)
            stoch = self.latent.sample(raw, base).flatten(1)
            steps.append((deter, stoch, raw))
        deters, stochs, raws = zip(*steps, strict=True)
        return torch.stack(deters), torch.stack(stochs), torch.stack(raws)

    def compute(
        self, deter: Tensor, stoch: Tensor, action: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """:meth:`imagine_step`: ``deter [*B, D]``, ``stoch [*B, *latent.shape]`` and ``action [*B, A]`` one step on."""
        return self.imagine_step(deter, stoch, action, noise)


def _reset(
    deter: Tensor, stoch: Tensor, is_init: Tensor, initial: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Tensor]:
    """State and flat sample, replaced by the initial ones where an episode begins."""
    if initial is None:
        return deter.masked_fill(is_init, 0.0), stoch.masked_fill(is_init, 0.0)
    return torch.where(is_init, initial[0], deter), torch.where(is_init, initial[1], stoch)
