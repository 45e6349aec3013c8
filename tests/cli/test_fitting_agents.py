"""`wmc agents`: which agent fits a saved model, in the words that building it would raise."""

import torch
from torchrl.data import Categorical, Composite, Unbounded

from tests.support.running import wmc
from wmcomponents.cli.known_agents import AGENTS
from wmcomponents.models import MuZero, MuZeroConfig


def test_the_agents_are_listed_with_their_presets():
    ran = wmc("agents")
    assert ran.code == 0 and set(ran.result["agents"]) == set(AGENTS)
    assert "size12m" in ran.result["agents"]["dreamer_v3"]["presets"]


def test_what_does_not_fit_a_saved_model_says_why(tmp_path):
    torch.manual_seed(0)
    shown = Composite(observation=Unbounded(torch.Size([3])))
    MuZero(MuZeroConfig.tiny(units=16), shown, Categorical(3)).save_pretrained(tmp_path / "model")
    ran = wmc("agents", "--model", tmp_path / "model")
    assert ran.code == 0, ran.err
    agents = ran.result["agents"]
    assert agents["dreamer_v3"] == {"fits": True, "why_not": None}
    assert not agents["dreamer_v1"]["fits"] and "index of a choice" in agents["dreamer_v1"]["why_not"]
    assert "does not fit" in ran.err


def test_a_folder_without_a_model_is_refused_before_anything_is_built(tmp_path):
    ran = wmc("agents", "--model", tmp_path)
    assert ran.code != 0 and str(tmp_path) in ran.err
