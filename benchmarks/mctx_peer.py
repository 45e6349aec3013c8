"""mctx in a Python of its own, which takes turns with :mod:`benchmarks.search`.

``python mctx_peer.py WEIGHTS.npz`` reads lines ``puct SIMULATIONS REPEATS`` (or ``gumbel``, or ``model``) and answers
each with one line of JSON: seconds of a call, and the visit counts of the roots. It needs jax and mctx, and nothing of
this library.
"""

import json
import os
import sys
import time

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import jax  # pyright: ignore[reportMissingImports]
import jax.numpy as jnp  # pyright: ignore[reportMissingImports]
import mctx  # pyright: ignore[reportMissingImports]
import numpy  # pyright: ignore[reportMissingImports]

DISCOUNT = 0.97


def linear(weights, name, x):
    """One layer as torch stores it."""
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def heads(weights, latent):
    """Logits ``[B, A]`` and value ``[B]``."""
    return linear(weights, "policy", latent), linear(weights, "value_head", latent)[:, 0]


def recurrent(weights, rng, action, latent):
    """The model's step and its heads."""
    actions = weights["policy.weight"].shape[0]
    x = jnp.concatenate([latent, jax.nn.one_hot(action, actions)], -1)
    after = jax.nn.relu(linear(weights, "second", jax.nn.relu(linear(weights, "first", x))))
    logits, value = heads(weights, after)
    reward = linear(weights, "reward_head", after)[:, 0]
    discount = jnp.full_like(reward, DISCOUNT)
    return mctx.RecurrentFnOutput(reward=reward, discount=discount, prior_logits=logits, value=value), after


def searches(simulations):
    """What is called, by name; each gives visit counts ``[B, A]``."""

    def root(weights, latent):
        logits, value = heads(weights, latent)
        return mctx.RootFnOutput(prior_logits=logits, value=value, embedding=latent)

    def puct(weights, latent, key):
        found = mctx.muzero_policy(
            weights, key, root(weights, latent), recurrent, simulations, dirichlet_fraction=0.0, temperature=0.0
        )
        return found.search_tree.summary().visit_counts

    def gumbel(weights, latent, key):
        found = mctx.gumbel_muzero_policy(weights, key, root(weights, latent), recurrent, simulations, gumbel_scale=0.0)
        return found.search_tree.summary().visit_counts

    def model(weights, latent, key):
        action = jnp.zeros(len(latent), jnp.int32)

        def step(latent, _):
            found, after = recurrent(weights, key, action, latent)
            return after, found.value

        return jax.lax.scan(step, latent, None, length=simulations)[1]

    return {name: jax.jit(call) for name, call in (("puct", puct), ("gumbel", gumbel), ("model", model))}


def main():
    """Answer until the input ends."""
    stored = dict(numpy.load(sys.argv[1]))
    latent = jnp.asarray(stored.pop("latent"))
    weights = {name: jnp.asarray(value) for name, value in stored.items()}
    key, made = jax.random.PRNGKey(0), {}
    for line in sys.stdin:
        name, simulations, repeats = line.split()
        call = made.setdefault(simulations, searches(int(simulations)))[name]
        found = jax.block_until_ready(call(weights, latent, key))
        begun = time.process_time()
        for _ in range(int(repeats)):
            jax.block_until_ready(call(weights, latent, key))
        seconds = (time.process_time() - begun) / int(repeats)
        visits = numpy.asarray(found).tolist() if name != "model" else None
        print(json.dumps({"seconds": seconds, "visits": visits, "mctx": mctx.__version__, "jax": jax.__version__}))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
