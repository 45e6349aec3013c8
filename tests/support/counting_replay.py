"""A replay buffer whose steps count, so that a gap in it shows."""

import torch
from tensordict import TensorDict
from torchrl.data import Binary, Bounded, Composite, Unbounded

from wmcomponents.data import make_replay

CAPACITY = 300


def flags(count: int) -> torch.Tensor:
    return torch.zeros(count, 1, dtype=torch.bool)


def buffer(images: bool, **options):
    flag = Binary(1, shape=(1,), dtype=torch.bool)
    shown = Bounded(0, 255, (3, 3, 3), dtype=torch.uint8) if images else Unbounded(50)
    following = Composite(
        x=shown.clone(), reward=Unbounded(1), terminated=flag.clone(), truncated=flag.clone(), done=flag.clone()
    )
    spec = Composite(x=shown, action=Bounded(-1, 1, (1,)), is_init=flag.clone(), next=following)
    return make_replay(CAPACITY, spec, sequence_length=8, batch_size=64, seed=0, print_fn=None, **options)


def walk(replay, first: int, count: int) -> None:
    """Steps that count: number k shows k, earns k, and leads to k + 1."""
    number = torch.arange(first, first + count)[:, None]
    shown = replay.transition_spec["entries"]["x"]

    def image(k):
        if shown["dtype"] == "uint8":
            return (k % 251).to(torch.uint8)[:, :, None, None].expand(-1, 3, 3, 3).clone()
        return k.float().expand(-1, 50).clone()

    following = {"x": image(number + 1), "reward": number.float(), "terminated": flags(count)}
    following |= {"truncated": flags(count), "done": flags(count)}
    steps = {"x": image(number), "action": number.float(), "is_init": flags(count), "next": following}
    replay.extend(TensorDict(steps, [count]))


def last_number(replay) -> int:
    """Check that every sequence counts on without a jump; the newest step."""
    for _ in range(3):
        batch = replay.sample()
        number = batch["action"][..., 0]
        assert (number[:, 1:] - number[:, :-1] == 1).all()
        assert batch["next", "reward"][..., 0].equal(number)
        kind = batch["x"].dtype
        turn = 251 if kind == torch.uint8 else 10**9
        assert (batch["x"].flatten(2) == (number % turn)[..., None]).all()
        assert (batch["next", "x"].flatten(2) == ((number + 1) % turn)[..., None]).all()
    return int(replay.storage[:]["action"].max())
