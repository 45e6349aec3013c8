"""Leading dims are free and rows are strangers: a row's answer is its own, alone or in any company."""

from collections.abc import Iterator

import torch
from torch import Tensor

from wmcomponents.functional.broadcast import aligned
from wmcomponents.testing.compare import difference
from wmcomponents.testing.model_probe import ROWS, Answer, ModelProbe, TestInputs
from wmcomponents.testing.report import Clause, Failure

APART = "reduce over a row's own dims only (dim=-1, never dim=0 or the whole tensor); no statistics of the batch."


def rowwise(probe: ModelProbe) -> Iterator[Failure]:
    """A batch ``[B]`` or ``[B, T]`` answers as its rows do alone, without leading dims."""
    for batch in ((3,), (2, 3), *(size for size in probe.batch_sizes if size)):
        for salt, given in enumerate((probe.situation(batch, salt=50), probe.situation(batch, salt=51).mode())):
            for verb in probe.verbs:
                whole = probe.ask(verb, given)
                for index in _some(batch):
                    alone = probe.ask(verb, given.row(*index))
                    text = difference(alone, {name: value[index] for name, value in whole.items()})
                    if text:
                        yield Failure(
                            "rows/alone",
                            f"{verb}, row {index} of batch {batch}, {'mode' if salt else 'with noise'}",
                            "the same answer as for this row without leading dims",
                            text,
                            APART,
                        )


def permuted(probe: ModelProbe) -> Iterator[Failure]:
    """Reordering the rows reorders the answers."""
    order = torch.randperm(ROWS, generator=probe.generator(52)).to(probe.device)
    situation = probe.situation(salt=53)
    for verb in probe.verbs:
        shuffled = probe.ask(verb, situation.map(lambda tensor: tensor[order], situation.batch))
        expected = {name: value[order] for name, value in probe.ask(verb, situation).items()}
        text = difference(shuffled, expected)
        if text:
            yield Failure("rows/permuted", verb, "permuted rows give permuted answers", text, APART)


def independent(probe: ModelProbe) -> Iterator[Failure]:
    """Changing some rows leaves the answers of the others."""
    situation, other = probe.situation(salt=54), probe.situation(salt=55)
    kept = torch.arange(ROWS, device=probe.device) < ROWS // 2
    beside = _rows_from(kept, situation, other)
    for verb in probe.verbs:
        text = difference(_of(probe.ask(verb, beside), kept), _of(probe.ask(verb, situation), kept))
        if text:
            yield Failure("rows/independent", verb, "other values in the rows beside change nothing here", text, APART)


def _some(batch: tuple[int, ...]) -> list[tuple[int, ...]]:
    """At most four indices of a batch, its corners first."""
    places = [tuple(place) for place in torch.ones(batch).nonzero().tolist()]
    return places if len(places) <= 4 else [places[0], places[1], places[-2], places[-1]]


def _rows_from(kept: Tensor, mine: TestInputs, other: TestInputs) -> TestInputs:
    tensors = iter(_tensors(other))
    return mine.map(lambda tensor: torch.where(aligned(kept, tensor), tensor, next(tensors)), mine.batch)


def _tensors(situation: TestInputs) -> list[Tensor]:
    collected: list[Tensor] = []

    def collect(tensor: Tensor) -> Tensor:
        collected.append(tensor)
        return tensor

    situation.map(collect, situation.batch)
    return collected


def _of(answer: Answer, kept: Tensor) -> Answer:
    return {name: value[kept] for name, value in answer.items()}


CLAUSES: tuple[Clause[ModelProbe], ...] = (
    Clause(("rows/alone",), rowwise),
    Clause(("rows/permuted",), permuted),
    Clause(("rows/independent",), independent),
)
