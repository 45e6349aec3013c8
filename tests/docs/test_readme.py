"""The README's story is short, runs, and ends well in reality."""

import re

import pytest

from tests.support.pages import ROOT, blocks

README = ROOT / "README.md"


def test_the_story_takes_at_most_15_lines():
    story = blocks(README, "python")[0].splitlines()
    assert len(story) <= 15 and max(map(len, story)) <= 120


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_story_ends_with_an_agent_that_balances_the_real_pole(run_code):
    story = "\n".join(blocks(README, "python"))
    printed = run_code(f"import torch\ntorch.manual_seed(0)\n{story}\nprint(agent.num_timesteps)")
    *_, result, taken = printed.splitlines()
    mean = float(re.search(r"\((?:np\.float64\()?([\d.]+)", result)[1])
    assert int(taken) == int(re.search(r"learn\(([\d_]+)\)", story)[1])  # PPO rounds up to whole rounds of n_steps
    assert mean > 60  # a random policy: about 22


def test_every_relative_link_leads_somewhere():
    targets = re.findall(r"\]\(([^):#]+)(?:#[^)]*)?\)", README.read_text())
    assert targets and [target for target in targets if not (ROOT / target).exists()] == []
