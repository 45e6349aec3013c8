"""Does a world model keep the protocol? Every clause, on random inputs that conform to its specs."""

from collections.abc import Sequence

from wmcomponents.testing.checks import capabilities, inplace, layout, modes, randomness, rows, time, values
from wmcomponents.testing.model_probe import ModelProbe
from wmcomponents.testing.report import Clause, Conformance, examine
from wmcomponents.testing.sampling import untouched_globals
from wmcomponents.world_model import WorldModel

# A model that is not a function of its arguments makes every comparison of two answers meaningless, so what looks for
# memory and for randomness of its own comes first.
CLAUSES: tuple[Clause[ModelProbe], ...] = (
    *layout.CLAUSES,
    *capabilities.CLAUSES,
    *values.CLAUSES,
    *randomness.CLAUSES,
    *values.MEMORY,
    *capabilities.TENSORDICT,
    *randomness.NOISE,
    *time.CLAUSES,
    *rows.CLAUSES,
    *inplace.CLAUSES,
    *modes.CLAUSES,
)


def check_world_model(
    model: WorldModel,
    *,
    seed: int = 0,
    batch_sizes: Sequence[Sequence[int]] = ((), (2,), (2, 3)),
    compile: bool = False,
) -> Conformance:
    """Hold a world model to every clause of the protocol.

    The model is run in eval mode, as every driver runs it, on its own device; afterwards its training flags and the
    global random generators are as they were. All broken clauses are reported together, except that what makes no sense
    without another clause (wrong keys, shapes, devices) is left unchecked until that one is mended.

    ================================== =================================================================================
    clause                             what it asks
    ================================== =================================================================================
    specs/well-formed                  flat specs of ONE row without batch dims; noise is uniform or normal
    specs/names                        state keys, observation keys and the protocol's own names are distinct
    verbs/run                          the declared verbs run at every batch size, with noise and without
    layout/keys                        exactly the keys of ``state_spec`` or ``observation_spec``
    layout/shape                       ``[*B, *leaf.shape]`` for every leading ``*B``
    layout/dtype                       the dtypes of the specs; reward, continuation and value float32
    layout/device                      everything on the model's device
    layout/trailing-one                reward, continuation and value end in a dimension of size 1
    values/finite                      no NaN, no infinity, also where the noise is 0 or just below 1
    values/in-space                    states and decoded observations lie inside their specs
    values/continue                    continuation is a probability
    capabilities/known                 only capabilities that the protocol knows
    capabilities/honest                declared parts work; undeclared ones raise ``CapabilityError`` or are ``None``
    capabilities/tensordict-form       ``module(verb)`` writes what the verb returns
    state-is-a-value/no-mutation       inputs are bitwise unchanged
    state-is-a-value/no-alias          outputs share memory with no input, parameter or buffer
    state-is-a-value/no-hidden-state   an answer depends on its call's arguments alone: no attribute is remembered
    state-is-a-value/model-unchanged   no parameter, buffer or training flag is changed by a verb
    randomness/no-global-rng           PyTorch's, NumPy's and Python's global generators do not move
    randomness/repeatable              the same arguments give the same answer whatever the global seed
    randomness/mode                    ``noise=None`` works and is deterministic
    randomness/noise-matters           declared noise changes something
    time/not-frozen                    imagined states change over time, and what is seen of them
    time/action-at-once                a_t shapes s_{t+1} or r_{t+1}: actions are not applied one step late
    time/observe-action                a filter that carries its past uses the action given, not an earlier one
    time/observation-matters           the filter depends on what it is shown
    time/is-init-erases                where ``is_init`` is true the state and action given do not matter, row by row
    time/sequence                      ``observe_sequence`` and ``observe_last`` equal single observes
    rows/alone                         a batch answers as its rows do alone
    rows/permuted                      permuted rows give permuted answers
    rows/independent                   other values in the rows beside change nothing
    inplace/as-pure                     ``imagine_inplace`` gives what ``imagine`` gives, bit by bit; that is pure
    inplace/alone                       it writes into the state given and shares memory with nothing else
    modes/grad                         the same values with gradients and under inference mode
    modes/compile                      with ``compile=True``: one graph, the eager values
    saving/round-trip                  a ``PretrainedModel`` answers alike after saving and loading
    ================================== =================================================================================

    Whether something *depends* on an input is asked of a copy whose all-zero weight matrices hold small numbers, so
    that a fresh model whose output layers begin at zero passes too.

    Args:
        model: the world model.
        seed: of the random inputs.
        batch_sizes: the leading dims to try.
        compile: also check ``torch.compile(fullgraph=True)`` with the eager backend.

    Returns:
        The clauses that hold, and those that were skipped with the reason.

    Raises:
        ConformanceError: naming each broken clause, where it broke, what was expected, what came, and the remedy.
        TypeError: if ``model`` is no ``WorldModel``.
    """
    if not isinstance(model, WorldModel):
        raise TypeError(
            f"check_world_model checks a WorldModel; got {type(model).__name__}. For environments: check_dream."
        )
    flags = [(module, module.training) for module in model.modules()]
    with untouched_globals():
        try:
            model.eval()
            return examine(ModelProbe(model, seed, batch_sizes, compile), type(model).__name__, CLAUSES)
        finally:
            for module, training in flags:
                module.training = training
