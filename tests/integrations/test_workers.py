"""Dreams in processes of their own; and the process that they are started from."""

import os
import subprocess
import sys
import textwrap

import pytest


def outcome(program):
    """What a program prints in a process of its own, with one thread, which a fork survives."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.split()


def test_importing_the_library_leaves_the_start_method_and_gymnasiums_workers_dream_apart():
    shown = outcome(
        """
        import multiprocessing
        import wmcomponents.cli, wmcomponents.models, wmcomponents.integrations.torchrl, wmcomponents.integrations.sb3
        print(multiprocessing.get_start_method(allow_none=True))
        from torchrl._utils import _get_default_mp_start_method
        print(_get_default_mp_start_method())

        import numpy as np
        from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
        from torchrl.data import Composite, OneHot, Unbounded
        from wmcomponents.integrations.gymnasium import DreamEnv
        from wmcomponents.testing.toy import ToyWorldModel

        model = ToyWorldModel(Composite(observation=Unbounded(3)), OneHot(2), noise="normal")

        def dream():
            return DreamEnv(model, horizon=3)

        def shown(env, seed):
            rows = [env.reset(seed=seed)[0].copy()]
            rows += [env.step(np.array([0, 1]))[0].copy() for _ in range(5)]
            env.close()
            return np.stack(rows)

        def workers():
            return AsyncVectorEnv([dream, dream], context="fork")

        unseeded = shown(workers(), None)
        print(np.array_equal(unseeded[:, 0], unseeded[:, 1]))
        print(np.array_equal(shown(workers(), 3), shown(SyncVectorEnv([dream, dream]), 3)))
        """
    )
    assert shown == ["None", "spawn", "False", "True"]


@pytest.mark.slow
def test_a_start_method_that_was_chosen_is_kept():
    shown = outcome(
        """
        import multiprocessing
        multiprocessing.set_start_method("forkserver")
        import wmcomponents.world_model
        print(multiprocessing.get_start_method())
        """
    )
    assert shown == ["forkserver"]


@pytest.mark.slow
def test_a_torchrl_that_was_imported_before_keeps_what_it_chose():
    shown = outcome(
        """
        import multiprocessing
        import torchrl
        import wmcomponents.world_model
        print(multiprocessing.get_start_method(allow_none=True))
        """
    )
    assert shown == ["spawn"]
