import json
import os
import subprocess
import sys

import pytest

from tests.support.running import train_arguments, wmc
from wmcomponents.training.checkpoint import read_tensors


def torchrun(*arguments, count=2):
    """`wmc` in several processes, as a user starts them."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", count, "-m", "wmcomponents.cli"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    return subprocess.run(
        [*map(str, command), *map(str, arguments)], capture_output=True, text=True, env=environment, timeout=280
    )


@pytest.mark.slow
def test_a_model_is_trained_in_two_processes_and_goes_on_in_one(tmp_path):
    assert wmc("collect", "--env", "CartPole-v1", "--steps", 200, "--out", tmp_path / "data").code == 0
    arguments = train_arguments(tmp_path / "data", tmp_path / "run")
    ran = torchrun(*arguments, "--parallel", "fsdp")
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.count("2 processes (fsdp), 8 sequences in each update") == 1
    result = json.loads(ran.stdout.strip().splitlines()[-1])
    assert result["steps"] == 3
    again = wmc(*train_arguments(tmp_path / "data", tmp_path / "run", steps=5))
    assert again.result["resumed_at"] == 3
    assert again.result["steps"] == 5


@pytest.mark.weekly
def test_an_agent_learns_in_two_processes_and_one_that_fails_ends_both_in_words(tmp_path):
    changes = ["prefill=40", "pretrain=2", "evaluate_every=0"]
    arguments = [
        "train",
        "--agent",
        "dreamer_v3",
        "--env",
        "CartPole-v1",
        "--out",
        tmp_path / "run",
        "--changes",
        *changes,
    ]
    ran = torchrun(*arguments, "--steps", 60)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout.strip().splitlines()[-1])["real_steps"] >= 60
    newest = json.loads((tmp_path / "run" / "bundle.json").read_text())["bundle"]
    assert sorted(entry.name for entry in (tmp_path / "run" / newest).iterdir()) == [
        "agent.safetensors", "data", "model.safetensors", "rank-1",
    ]  # fmt: skip
    assert "rank 1/replay" in read_tensors(tmp_path / "run" / newest / "model.safetensors")[0]
    damaged = tmp_path / "run" / newest / "rank-1" / "agent.safetensors"
    damaged.write_bytes(b"nothing")
    failed = torchrun(*arguments, "--steps", 80)
    assert failed.returncode == 1
    assert "wmc (rank 1 of 2): " in failed.stderr
    assert "is damaged" in failed.stderr


def test_what_is_the_work_of_one_process_is_refused_in_several(monkeypatch, tmp_path):
    for name, value in {"MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "2", "RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    ran = wmc("collect", "--env", "CartPole-v1", "--out", tmp_path)
    assert ran.code == 2
    assert "rank 1 of 2" in ran.err
    assert "wmc collect is the work of one process" in ran.err
