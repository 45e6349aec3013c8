"""From collecting to evaluation on every kind of environment."""

import pytest

from tests.support.running import train_arguments, wmc

ENVIRONMENTS = [
    ("Pendulum-v1", "pygame", []),
    ("MinAtar/Breakout-v1", "minatar", ["--repeat-probability", 0.5]),
    ("dm_control/cartpole-swingup", "dm_control", []),
]


@pytest.mark.slow
@pytest.mark.parametrize(("env", "package", "options"), ENVIRONMENTS, ids=[env for env, *_ in ENVIRONMENTS])
def test_collect_train_dream_eval(tmp_path, env, package, options):
    pytest.importorskip(package)
    pytest.importorskip("matplotlib")
    data, run = tmp_path / "data", tmp_path / "run"
    steps = [
        wmc("collect", "--env", env, "--steps", 200, "--out", data, *options),
        wmc(*train_arguments(data, run, steps=5)),
        wmc("dream", "--model", run / "model", "--steps", 8, "--out", tmp_path / "dream.gif"),
        wmc("dream", "--model", run / "model", "--compare", data, "--steps", 8, "--out", tmp_path / "strip.png"),
        wmc("eval", "--model", run / "model", "--data", data, "--horizon", 6, "--sequences", 8),
        wmc("info", "--model", run / "model"),
    ]
    for ran in steps:
        assert ran.code == 0, ran.err
        assert ran.result
    assert (run / "evaluation" / "horizon.png").is_file()
