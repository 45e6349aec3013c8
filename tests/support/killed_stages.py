"""A training in two stages that is killed in each of them: python killed_stages.py FOLDER

Prints one JSON object: whether the killed run ended with the weights and logs of one that was not.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support import corridor, killed_runs
from wmcomponents.models import WorldModels, WorldModelsConfig
from wmcomponents.training import Trainer

VISION, STEPS = 8, 20


def train(out: Path, scenario: str, told: int, hang: bool) -> None:
    """One run, from the last checkpoint to the end; writes a byte into ``told`` after each update."""
    torch.manual_seed(0)
    config = WorldModelsConfig.tiny(vision_steps=VISION, latent=4, hidden=8, units=8)
    example = corridor.model()
    model = WorldModels(config, example.observation_spec, example.action_spec)
    options = {"checkpoint_every": 3, "log_every": 1, "logger": "csv", "progress": False}
    trainer = Trainer(model, corridor.replay(), lr=1e-3, out=out, **options)
    update = trainer.update

    def telling(sequences):
        result = update(sequences)
        os.write(told, b"u")
        return result

    trainer.update = telling
    trainer.train(STEPS)
    state = b"".join(value.numpy().tobytes() for value in model.state_dict().values())
    (out / "weights.sha256").write_text(hashlib.sha256(state).hexdigest())


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    killed_runs.train = train
    whole, killed = folder / "whole", folder / "killed"
    assert killed_runs.run(whole, "stages", None)
    for updates in (5, 4, 9):  # in V's stage, one step before its end, in M's
        assert not killed_runs.run(killed, "stages", updates)
    assert killed_runs.run(killed, "stages", None)
    files = ["weights.sha256", "logs/scalars/train/loss_kl.csv", "logs/scalars/train/loss_mixture.csv"]
    same = {name: (whole / name).read_text() == (killed / name).read_text() for name in files}
    steps = {name: [int(row.split(",")[0]) for row in (killed / name).read_text().splitlines()] for name in files[1:]}
    print(json.dumps({"same": list(same.values()), "vision": steps[files[1]], "memory": steps[files[2]]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
