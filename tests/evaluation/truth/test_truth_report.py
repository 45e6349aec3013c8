import json
from html.parser import HTMLParser

import gymnasium
import numpy as np
import pytest
import torch
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from tests.support.worlds import counting_sequences, point_mass_sequences, transitions
from wmcomponents.data import make_env
from wmcomponents.evaluation.truth import (
    SECTIONS,
    Backbones,
    Evidence,
    TruthSettings,
    compare_reports,
    evidence_from,
    truth_report,
    write_truth_report,
)
from wmcomponents.evaluation.truth.compared import BadReportError, names_of, read_report
from wmcomponents.evaluation.truth.layout import measured, trusted
from wmcomponents.evaluation.truth.returns import ReturnSettings, returns_section
from wmcomponents.testing.toy import ToyWorldModel
from wmcomponents.world_model import Prediction, WorldModel

REACH, PUSH = 2.0, 0.5
VECTOR = Composite(observation=Unbounded(3))
SMALL = TruthSettings(
    burn_in=2, horizon=6, samples=2, returns=ReturnSettings(8, 3, 10, 4, 16), film_steps=0, probe_updates=5
)


def moved(place, action):
    return (place + PUSH * action).clip(-REACH, REACH)


class Puck(gymnasium.Env):
    """A place on a line; being near zero pays."""

    observation_space = gymnasium.spaces.Box(-REACH, REACH, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return self.place, {}

    def step(self, action):
        self.place = moved(self.place, np.asarray(action, np.float32))
        return self.place, float(np.exp(-4 * self.place[0] ** 2)), False, False, {}


class PuckModel(WorldModel):
    """Exact, but for a bonus that it pays far out, and for actions it may not hear."""

    def __init__(self, bonus=0.0, hears=1.0):
        super().__init__(
            observation_spec=Composite(observation=Bounded(-REACH, REACH, (1,))),
            action_spec=Bounded(-1.0, 1.0, (1,)),
            state_spec=Composite(place=Unbounded(1)),
        )
        self.anchor = torch.nn.Parameter(torch.zeros(()))
        self.bonus, self.hears = bonus, hears

    def observe(self, state, action, observation, is_init, noise):
        return {"place": observation["observation"].clone()}

    def imagine(self, state, action, noise):
        place = moved(state["place"], self.hears * action)
        reward = torch.exp(-4 * place.square()) + self.bonus * (place > 1.4)
        return Prediction({"place": place}, reward, torch.ones_like(place))

    def decode(self, state):
        return {"observation": state["place"].clone()}

    def features(self, state):
        return torch.cat([state["place"], state["place"] ** 2], -1)


def puck_evidence(episodes=12, time=12):
    generator = torch.Generator().manual_seed(0)
    model, place, rows = PuckModel(), torch.rand(episodes, 1, generator=generator) * 2 - 1, []
    for _ in range(time):
        action = (-0.8 * place + 0.4 * torch.randn(episodes, 1, generator=generator)).clamp(-1, 1)
        state, reward, _ = model.imagine({"place": place}, action, None)
        rows.append((place, state["place"], action, reward.detach()))
        place = state["place"]
    here, after, action, reward = (torch.stack(values, 1) for values in zip(*rows, strict=True))
    cut = torch.zeros(episodes, time, 1, dtype=torch.bool)
    cut[:, -1] = True
    steps = transitions({"observation": here}, {"observation": after}, action, reward, truncated=cut)
    steps["is_init"][:, 0] = True
    return evidence_from([steps.reshape(-1)], burn_in=SMALL.burn_in, horizon=SMALL.horizon, rows=64)


def real_puck(steps):
    return make_env(Puck, max_episode_steps=steps)


def verdicts(report):
    return {one["topic"]: one["verdict"] for one in report["conclusions"]}


@pytest.fixture(scope="module")
def honest():
    return truth_report(PuckModel(), puck_evidence(), settings=SMALL, make_env=real_puck)


@pytest.fixture(scope="module")
def flattering():
    return truth_report(PuckModel(bonus=3.0), puck_evidence(), settings=SMALL, make_env=real_puck)


def test_an_exact_model_is_trusted_in_everything(honest):
    report, _ = honest
    assert report["headline"]["trusted_steps"] == SMALL.horizon
    found = verdicts(report)
    assert {found[topic] for topic in ("observations", "rewards", "actions", "ranking", "exploitation")} == {"good"}
    assert report["returns"]["bias"] == pytest.approx(0.0, abs=0.2)
    assert report["reward"]["correlation"] == pytest.approx(1.0)


def test_a_reward_that_flatters_a_region_is_found_by_searching_the_dream(honest, flattering):
    report, _ = flattering
    tested = report["returns"]["exploitation"]
    assert tested["dream"] > 10.0 and tested["real"] < 5.0
    assert tested["gap"] > 5.0 * max(honest[0]["returns"]["exploitation"]["gap"], 0.5)
    assert verdicts(report)["exploitation"] == "bad"
    assert "a search finds rewards in it that reality does not pay" in report["headline"]["says"]
    # Along the data's own actions nothing of it is seen: that is why a search is needed.
    assert verdicts(report)["rewards"] == "good" and report["headline"]["trusted_steps"] == SMALL.horizon


def test_a_model_that_does_not_hear_its_actions_is_told_to():
    evidence = puck_evidence()
    report, _ = truth_report(PuckModel(hears=0.0), evidence, settings=SMALL)
    gain = report["actions"]["quantities"][0]["gain"]["mean"]
    assert gain == [0.0] * len(gain) and verdicts(report)["actions"] == "caution"


def test_a_report_is_json_of_one_layout_and_says_what_was_not_measured(honest):
    sequences = point_mass_sequences(8, 12)
    blind = ToyWorldModel(VECTOR, Bounded(-1, 1, (1,)), parts=("features", "reward", "continue"))
    sequences["observation"] = torch.randn(8, 12, 3)
    sequences["next", "observation"] = torch.randn(8, 12, 3)
    evidence = Evidence(sequences, torch.arange(8), 96)
    other, _ = truth_report(blind, evidence, settings=SMALL)
    for report in (honest[0], other):
        assert tuple(report) == SECTIONS
        assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert other["prediction"]["observations_are"] == "probed"
    assert other["data"]["episodes"] == 4  # the other half went to the probe
    assert "no environment" in other["returns"]["not_measured"]
    assert {name for name in SECTIONS if isinstance(other[name], dict) and not measured(other[name])} == {
        "pictures",
        "returns",
        "levels",
    }


def test_features_that_have_collapsed_are_named():
    class Collapsed(PuckModel):
        def features(self, state):
            return torch.zeros_like(state["place"]).expand(*state["place"].shape[:-1], 4).clone()

    report, _ = truth_report(Collapsed(), puck_evidence(), settings=SMALL)
    assert verdicts(report)["latent"] == "bad"


def test_levels_are_judged_in_units_of_their_own_baseline():
    evidence = puck_evidence()
    far = Evidence(evidence.sequences.clone(), evidence.episodes, evidence.steps)
    far.sequences["next", "observation"] = -far.sequences["next", "observation"]
    report, _ = truth_report(PuckModel(), evidence, settings=SMALL, levels={"here": evidence, "mirror": far})
    home, here, mirror = ({one["name"]: one for one in level["quantities"]} for level in report["levels"]["levels"])
    assert home == here
    assert mirror["observation/observation"]["relative_error"] > 1.0
    assert [one["verdict"] for one in report["conclusions"] if one["topic"] == "levels"].count("bad") == 1


def test_pictures_are_measured_by_networks_of_the_users():
    spec = Composite(pixels=Bounded(0, 255, (16, 16, 3), dtype=torch.uint8))
    model = ToyWorldModel(spec, OneHot(2), noise="uniform")
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (6, 9, 16, 16, 3), generator=generator, dtype=torch.uint8)
    action = torch.nn.functional.one_hot(torch.randint(0, 2, (6, 8), generator=generator), 2)
    sequences = transitions({"pixels": frames[:, :-1]}, {"pixels": frames[:, 1:]}, action, torch.zeros(6, 8, 1))
    shapes = []

    def flat(batch):
        shapes.append(tuple(batch.shape[1:]))
        return batch.flatten(1)[:, ::97]

    networks = Backbones(lpips=lambda image: [image, image[..., ::2, ::2]], fid=flat, fvd=flat, names="strides")
    report, shown = truth_report(model, Evidence(sequences, torch.arange(6), 48), settings=SMALL, backbones=networks)
    kinds = {one["metric"] for one in report["prediction"]["quantities"] if one["kind"] == "picture"}
    assert kinds == {"PSNR", "SSIM", "LPIPS"}
    found = report["pictures"]["distances"]["pixels"]
    assert found["FVD"]["clips"] == 6 and found["FVD"]["frames"] == 6 and found["FID"]["images"] == 36
    assert set(shapes) == {(3, 16, 16), (3, 6, 16, 16)}
    assert found["FID"]["distance"] > 0 and shown.film == ""


# -- the page ----------------------------------------------------------------------------------------------------


class Reader(HTMLParser):
    """Collects what a page would fetch, and whether its tags close."""

    VOID = {"meta", "img"}

    def __init__(self):
        super().__init__()
        self.fetched, self.open, self.text = [], [], []

    def handle_starttag(self, tag, attributes):
        self.fetched += [value for name, value in attributes if name in ("src", "href", "srcset")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.fetched += [value for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(page):
    reader = Reader()
    reader.feed(page)
    assert reader.open == [] and "url(" not in page and "<script" not in page and "NaN" not in page
    assert all(one.startswith("data:image/") for one in reader.fetched)
    return "".join(reader.text)


def test_a_page_stands_alone_and_says_every_conclusion(flattering, tmp_path):
    report, shown = flattering
    files = write_truth_report(report, shown, tmp_path)
    page = files["html"].read_text()
    text = read(page)
    assert all(one["says"] in text for one in report["conclusions"])
    assert report["headline"]["says"] in text and len(page) < 200_000
    assert read_report(tmp_path) == json.loads(files["json"].read_text()) == report


def test_the_film_of_a_model_that_decodes_is_in_the_page(tmp_path):
    pytest.importorskip("PIL")
    settings = TruthSettings(burn_in=2, horizon=4, samples=1, film_steps=3)
    report, shown = truth_report(PuckModel(), puck_evidence(), settings=settings)
    assert shown.film.startswith("data:image/webp") and shown.strip_steps == [0, 1, 2, 3]
    read(write_truth_report(report, shown, tmp_path)["html"].read_text())


def test_reports_stand_side_by_side(honest, flattering):
    columns, rows, page = compare_reports({"honest": honest[0], "flattering <&>": flattering[0]})
    assert columns == ["", "honest", "flattering <&>"]
    gaps = next(row for row in rows if row[0] == "exploitation gap")
    assert gaps[2] > 5 > gaps[1]
    text = read(page)
    assert "flattering <&>" in text and honest[0]["headline"]["says"] in text
    with pytest.raises(ValueError, match="at least two"):
        compare_reports({"honest": honest[0]})


def test_other_files_are_no_reports(honest, tmp_path):
    with pytest.raises(BadReportError, match="holds no report"):
        read_report(tmp_path)
    (tmp_path / "report.json").write_text("[1]")
    with pytest.raises(BadReportError, match="is no report"):
        read_report(tmp_path)
    (tmp_path / "report.json").write_text(json.dumps({**honest[0], "format": 99}))
    with pytest.raises(BadReportError, match="format 99"):
        read_report(tmp_path)


def test_names_tell_reports_apart(honest):
    report = honest[0]
    other = {**report, "model": {**report["model"], "family": "DreamerV3"}}
    assert names_of(["a/x", "b/y"], [report, other]) == ["PuckModel", "DreamerV3"]
    assert names_of(["a/x/report.json", "b/y/report.json"], [report, report]) == ["PuckModel (x)", "PuckModel (y)"]
    assert names_of(["a/x/r.json", "b/x/r.json"], [report, report]) == ["1. PuckModel (x)", "2. PuckModel (x)"]


# -- the evidence ------------------------------------------------------------------------------------------------


def test_sequences_know_the_episode_that_their_dream_begins_in():
    steps = torch.cat([counting_sequences((4,))[0] for _ in range(3)])
    steps["is_init"][::4] = True
    evidence = evidence_from([steps], burn_in=2, horizon=2, rows=100)
    assert evidence.steps == 12 and evidence.number_of_episodes == 3 and not evidence.by_episode
    # The prefix lies in one episode; it begins at the first three steps of each, as far as three steps follow.
    starts = evidence.sequences["observation"][:, 0, 0].tolist()
    assert starts == [0, 1, 2, 0, 1, 2, 0, 1]
    assert evidence.episodes.tolist() == [1, 1, 1, 2, 2, 2, 3, 3]
    first, second = evidence.halves()
    assert set(first.episodes.tolist()).isdisjoint(second.episodes.tolist())


def test_streams_are_not_joined_and_short_ones_are_left_out():
    long, short = counting_sequences((6,))[0], counting_sequences((2,))[0]
    evidence = evidence_from([short, long, long], burn_in=1, horizon=5, rows=9)
    assert evidence.sequences["observation"][:, 0, 0].tolist() == [0, 1, 0, 1] and evidence.steps == 14
    with pytest.raises(ValueError, match="need 7 steps in a row; there are 6"):
        evidence_from([short, long], burn_in=3, horizon=5, rows=9)


def test_the_longest_stretch_in_which_a_model_is_better_by_hand():
    model = torch.tensor([[2.0, 1.0, 1.0, 3.0, 1.0]]).double().expand(4, 5)
    counts = torch.ones(3, 4, dtype=torch.float64)
    baseline = torch.full((4, 5), 1.5, dtype=torch.float64)
    assert trusted(model, baseline, counts) == {"from": 2, "steps": 3, "low": 3, "high": 3}
    assert trusted(model, baseline, counts, lower_is_better=False) == {"from": 1, "steps": 1, "low": 1, "high": 1}
    assert trusted(baseline, baseline, counts) == {"from": 0, "steps": 0, "low": 0, "high": 0}


@pytest.mark.parametrize("one", ["policies", "episodes"])
def test_one_return_has_no_spread(one):
    with pytest.raises(ValueError, match=f"{one} is a number of returns that are compared, at least 2; got 1"):
        returns_section(None, None, None, ReturnSettings()._replace(**{one: 1}), seed=0)
