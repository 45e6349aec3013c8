import pytest

from tests.support.running import wmc
from wmcomponents.cli.policies import BadAgentError, agent_view, load_agent
from wmcomponents.models.loading import load

sb3 = pytest.importorskip("stable_baselines3")


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    """An untrained PPO agent on CartPole's observation."""
    path = tmp_path_factory.mktemp("agents") / "agent.zip"
    sb3.PPO("MlpPolicy", "CartPole-v1", seed=0, device="cpu").save(path)
    return path


@pytest.fixture(scope="module")
def latent_agent(model, tmp_path_factory):
    """An untrained PPO agent on the model's latents."""
    from wmcomponents.integrations.sb3 import DreamVecEnv

    path = tmp_path_factory.mktemp("agents") / "latent.zip"
    sb3.PPO("MlpPolicy", DreamVecEnv(model, view="latent", horizon=5), seed=0, device="cpu").save(path)
    return path


@pytest.mark.parametrize(
    ("name", "env"),
    [
        ("PPO", "CartPole-v1"),
        ("A2C", "CartPole-v1"),
        ("DQN", "CartPole-v1"),
        ("SAC", "Pendulum-v1"),
        ("TD3", "Pendulum-v1"),
    ],
)
def test_an_agent_is_recognised_by_its_file(tmp_path, name, env):
    sizes = {"buffer_size": 10} if name in ("DQN", "SAC", "TD3") else {}
    getattr(sb3, name)("MlpPolicy", env, device="cpu", **sizes).save(tmp_path / "agent.zip")
    assert type(load_agent(tmp_path / "agent.zip")).__name__ == name


def test_a_file_that_is_no_agent_is_refused(tmp_path):
    (tmp_path / "agent.zip").write_text("no zip")
    with pytest.raises(BadAgentError, match="was not saved by Stable-Baselines3"):
        load_agent(tmp_path / "agent.zip")


def test_an_agent_is_known_by_what_it_observes(model, agent, latent_agent, tmp_path):
    world = load(model)
    assert agent_view(load_agent(agent), world) == "decoded"
    assert agent_view(load_agent(latent_agent), world) == "latent"
    sb3.PPO("MlpPolicy", "Pendulum-v1", device="cpu").save(tmp_path / "other.zip")
    with pytest.raises(BadAgentError, match="the agent observes"):
        agent_view(load_agent(tmp_path / "other.zip"), world)


def test_an_agent_collects(agent, tmp_path):
    ran = wmc("collect", "--env", "CartPole-v1", "--steps", 30, "--policy", agent, "--out", tmp_path / "d")
    assert ran.code == 0 and ran.result["policy"] == str(agent)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["agent", "latent_agent"])
def test_an_agent_dreams_and_returns_to_reality(request, model, data, tmp_path, which):
    pytest.importorskip("matplotlib")
    path = request.getfixturevalue(which)
    ran = wmc("dream", "--model", model, "--policy", path, "--steps", 4, "--out", tmp_path / "dream.gif")
    assert ran.code == 0, ran.err
    ran = wmc(
        "eval", "--model", model, "--data", data, "--horizon", 3, "--sequences", 4, "--out", tmp_path, "--agent", path,
        "--episodes", 2,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert ran.result["real_return"]["episodes"] == 2 and ran.result["real_return"]["mean"] > 5
