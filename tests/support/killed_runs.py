"""A process that trains in child processes of its own and kills them: python killed_runs.py FOLDER SCENARIO SEED

Each run is a fork, so that what is slow about starting, the imports, is paid once. Prints one JSON object.

Scenarios: ``random`` and ``adam`` kill with SIGKILL at five random moments; ``writing`` kills twice in the middle of
writing a checkpoint. After each kill a new process goes on, and the last one finishes.
"""

import hashlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support import corridor
from wmcomponents.training import Trainer

STEPS, CHECKPOINT_EVERY = 40, 3


def train(out: Path, scenario: str, told: int, hang: bool) -> None:
    """One run, from the last checkpoint to the end; writes a byte into ``told`` after each update."""
    if hang:
        hang_in_write(told)
    model = corridor.model()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3) if scenario == "adam" else None
    trainer = Trainer(
        model,
        corridor.replay(),
        optimizer=optimizer,
        lr=1e-3,
        warmup=5,
        out=out,
        checkpoint_every=CHECKPOINT_EVERY,
        log_every=1,
        logger="csv",
        progress=False,
    )
    update = trainer.update

    def telling(sequences):
        result = update(sequences)
        os.write(told, b"u")
        return result

    trainer.update = telling
    trainer.train(STEPS)
    state = b"".join(value.numpy().tobytes() for value in model.state_dict().values())
    (out / "weights.sha256").write_text(hashlib.sha256(state).hexdigest())


def hang_in_write(told: int) -> None:
    """Stop in the second write, with a file that ends anywhere in place of the whole one."""
    replace, writes = os.replace, []

    def hanging(source, target):
        writes.append(target)
        if len(writes) == 2:
            with open(source, "rb+") as file:
                file.truncate(os.path.getsize(source) // 2)
            os.write(told, b"w")
            time.sleep(600)
        replace(source, target)

    os.replace = hanging


def run(out: Path, scenario: str, updates: int | None, delay: float = 0.0, hang: bool = False) -> bool:
    """Fork a run, and kill it once it has made so many updates (or hangs in a write). Whether it ended by itself."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        train(out, scenario, write, hang)
        os._exit(0)
    os.close(write)
    seen = 0
    while byte := os.read(read, 1):
        seen += byte == b"u"
        if byte == b"w" or seen == updates:
            time.sleep(delay)
            os.kill(child, signal.SIGKILL)
            break
    os.close(read)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError(f"the run itself failed with {os.WEXITSTATUS(status)}")
    return not os.WIFSIGNALED(status)


def main(folder: Path, scenario: str, seed: int) -> None:
    torch.set_num_threads(1)
    chance = random.Random(seed)
    whole, killed = folder / "whole", folder / "killed"
    assert run(whole, scenario, None)
    kills = 0
    while kills < (2 if scenario == "writing" else 5):
        if scenario == "writing":
            ended = run(killed, scenario, None, hang=True)
        else:
            ended = run(killed, scenario, chance.randint(1, 9), delay=chance.uniform(0.0, 0.02))
        assert not ended, "the run ended before it could be killed: raise STEPS"
        kills += 1
    assert run(killed, scenario, None)
    hashes = [(out / "weights.sha256").read_text() for out in (whole, killed)]
    logs = [(out / "logs/scalars/train/loss_dyn.csv").read_text() for out in (whole, killed)]
    files = sorted(path.name for path in killed.iterdir())
    same = {"same_weights": len(set(hashes)) == 1, "same_logs": len(set(logs)) == 1}
    print(json.dumps({"kills": kills, **same, "files": files}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
