"""What the specs of a world model must be, and their entries in order."""

from typing import Any, cast

from torchrl.data import Bounded, Composite, TensorSpec, Unbounded


def keys_of(spec: Composite) -> list[str]:
    """The keys of a flat spec, in order."""
    return [str(key) for key in spec.keys()]


def items_of(spec: Composite) -> list[tuple[str, TensorSpec]]:
    """The entries of a flat spec, in order."""
    return [(str(key), leaf) for key, leaf in spec.items()]


def check_flat(name: str, spec: Any) -> None:
    """Refuse a spec that is no ``Composite``, has batch dims, or nests entries.

    Raises:
        TypeError, ValueError: naming the spec and the entries.
    """
    if not isinstance(spec, Composite):
        raise TypeError(
            f"{name} must be a torchrl Composite of named entries, such as Composite(observation=Unbounded(4)); "
            f"got {type(spec).__name__}."
        )
    if tuple(spec.shape):
        raise ValueError(f"{name} describes ONE row, so it has no batch dims; got shape {tuple(spec.shape)}.")
    nested = [key for key, leaf in spec.items() if isinstance(leaf, Composite)]
    if nested:
        raise ValueError(f"{name} must be flat; the entries {nested} are nested. Give each tensor a name of its own.")


def both_verbs(spec: Composite | None) -> Composite:
    """A noise spec with the entries ``observe`` and ``imagine``, from a flat one or one of that form.

    Raises:
        ValueError: if it is neither, or a leaf is neither uniform nor normal.
    """
    entries: dict[str, Any] = {} if spec is None else dict(items_of(spec))
    nested = [key for key, leaf in entries.items() if isinstance(leaf, Composite)]
    if nested and (len(nested) != len(entries) or set(nested) - {"observe", "imagine"}):
        raise ValueError(
            f"noise_spec is either flat, or has only the entries 'observe' and 'imagine'; got {list(entries)}."
        )
    verbs: dict[str, Any] = entries if nested else {verb: Composite(entries) for verb in ("observe", "imagine")}
    result = Composite({verb: verbs.get(verb, Composite()).clone() for verb in ("observe", "imagine")})
    for verb in ("observe", "imagine"):
        check_flat(f"noise_spec[{verb!r}]", result[verb])
        _check_base_noise(cast(Composite, result[verb]))
    return result


def _check_base_noise(spec: Composite) -> None:
    for key, leaf in items_of(spec):
        if not _is_uniform(leaf) and not isinstance(leaf, Unbounded):
            raise ValueError(
                f"noise {key!r} must be Bounded(0, 1) (uniform) or Unbounded (standard normal); got {leaf}. "
                f"Transform base noise inside the model instead."
            )


def _is_uniform(leaf: TensorSpec) -> bool:
    if not isinstance(leaf, Bounded):
        return False
    low, high = cast(Any, leaf.space).low, cast(Any, leaf.space).high
    # Under torch.device("meta"), where models are built for their shapes alone, bounds hold no numbers.
    return low.is_meta or bool((low == 0).all() and (high == 1).all())


def check_kinds(family: str, given: dict[str, Any]) -> None:
    """Refuse what is no spec, such as specs in the wrong order."""
    for name, kind in (("observation_spec", Composite), ("action_spec", TensorSpec)):
        value = given.get(name)
        if value is not None and (not isinstance(value, kind) or (kind is TensorSpec and isinstance(value, Composite))):
            wanted = "a Composite with an entry for each observation" if kind is Composite else "the spec of one action"
            raise TypeError(
                f"{name} of {family} is {wanted}, a Gymnasium space, or (observation_spec alone) an environment; got "
                f"{type(value).__name__}. data.{name}(env) gives it; observations come before actions."
            )
