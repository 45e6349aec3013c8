"""Other weights in a module for a while: whatever happens meanwhile, its own are back afterwards."""

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictParams
from torch import nn

from wmcomponents.objectives.weights import placed


class Stop(BaseException):
    """Not an Exception, as KeyboardInterrupt is not."""


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit, Stop])
def test_after_any_error_the_module_has_its_own_weights_again(error):
    net = nn.Linear(2, 2)
    own = net.weight
    other = TensorDictParams(TensorDict.from_module(net).clone().apply(torch.zeros_like))
    with pytest.raises(error, match="here"), placed(other, net):
        assert not net.weight.any()
        raise error("here")
    assert net.weight is own


def test_weights_changed_meanwhile_are_changed_in_the_parameters():
    net = nn.Linear(2, 2)
    own, other = net.weight, TensorDictParams(TensorDict.from_module(net).clone())
    with placed(other, net), torch.no_grad():
        net.weight.fill_(7.0)
    assert net.weight is own and (other["weight"] == 7.0).all()


@pytest.mark.filterwarnings("ignore:torch._dynamo.config.inline_inbuilt_nn_modules")  # read by tensordict
def test_a_compiled_function_may_place_weights():
    net = nn.Linear(2, 2)
    doubled = TensorDictParams(TensorDict.from_module(net).data * 2)

    def run(x):
        with placed(doubled, net):
            return net(x)

    x = torch.ones(1, 2)
    torch.testing.assert_close(torch.compile(run, backend="eager")(x), run(x))
