"""A loss names the kind of model it trains, and refuses the others."""

from typing import Protocol

import pytest
from torch import nn

from wmcomponents.objectives import check_model


class Tokenizing(Protocol):
    tokenizer: nn.Linear

    def tokens(self) -> int: ...


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokenizer = nn.Linear(1, 1)

    def tokens(self) -> int:
        return 3


def test_a_protocol_is_met_by_a_module_whose_parts_are_modules() -> None:
    check_model(Model(), Tokenizing, nn.MSELoss)


def test_a_model_that_lacks_a_member_is_refused_by_the_members_name() -> None:
    with pytest.raises(
        TypeError, match=r"^MSELoss trains a Tokenizing; Linear has no tokenizer, tokens: use the loss that its own ob"
    ):
        check_model(nn.Linear(1, 1), Tokenizing, nn.MSELoss)


def test_a_model_of_another_class_is_refused_by_name() -> None:
    check_model(Model(), Model, nn.MSELoss)
    with pytest.raises(TypeError, match="MSELoss trains a Model; Linear is no Model"):
        check_model(nn.Linear(1, 1), Model, nn.MSELoss)
