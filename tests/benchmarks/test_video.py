"""Video worlds of the benchmark: what is made of a frozen one, a teacher as a world, and a whole run of little ones."""

from dataclasses import replace

import pytest
import torch

pytest.importorskip("minatar")
pytest.importorskip("matplotlib")

from benchmarks import pixels, video, video_adapters, video_page, video_variants
from benchmarks.fitting import kept
from benchmarks.pixel_worlds import MINATAR, PixelFit
from benchmarks.video_worlds import FITS
from wmcomponents.functional import EulerFlowSampler
from wmcomponents.models import AVID, AVIDConfig, CausVid, CausVidConfig

UNET = {"network.unet.dim": 8, "network.unet.heads": 1, "network.unet.head_dim": 8}
LITTLE = {
    "DiffusionForcing": UNET,
    "CausVid": {**UNET, "teacher_steps": 1, "ode_steps": 1, "solver_steps": 4, "critic_updates": 1},
}


@pytest.fixture(scope="module")
def base():
    torch.manual_seed(0)
    return AVID(AVIDConfig.tiny(), *video_adapters.specs()).base


@pytest.fixture(scope="module")
def asked():
    torch.manual_seed(1)
    film, level = torch.randn(1, 6, 3, 16, 16), torch.full((1, 6), 300)
    return film, level, torch.randn(1, 2, 3, 16, 16), torch.nn.functional.one_hot(torch.arange(6)[None] % 3, 3).float()


@pytest.mark.parametrize("way", ["tuned", "base"])
def test_what_is_tuned_begins_as_the_video_model(way, base, asked):
    film, level, context, _ = asked
    said = video_adapters.world(way, base).predict(*asked)[0]
    torch.testing.assert_close(said, base(film, level, context), atol=1e-5, rtol=1e-5)


def test_the_same_network_from_nothing_and_the_adapter_say_something_else(base, asked):
    film, level, context, _ = asked
    for way in ("nothing", "adapter"):
        said = video_adapters.world(way, base).predict(*asked)[0]
        assert not torch.allclose(said, base(film, level, context), atol=1e-2)


def test_a_teacher_draws_behind_rows_of_different_pasts_what_its_films_hold():
    torch.manual_seed(0)
    student = CausVid(CausVidConfig.tiny(), *video_adapters.specs())
    world, rows = video.teacher_of(student), 3
    state = world.initial_state((rows,))
    image = torch.randint(0, 256, (rows, 16, 16, 3), dtype=torch.uint8)
    first = torch.ones(rows, 1, dtype=torch.bool)
    state = world.observe(state, world.null_action((rows,)), {"pixels": image}, first, None)
    state["filled"][1] = 3
    action = world.action_spec.rand(torch.Size([rows]))
    noise = world.noise_source("imagine")((rows,), torch.Generator().manual_seed(0))
    with torch.no_grad():
        together = world.imagine(state, action, noise).state["window"]
        for row, place in enumerate((1, 3, 1)):
            own = ({key: value[row : row + 1] for key, value in each.items()} for each in (state, noise))
            alone = world.imagine(next(own), action[row : row + 1], next(own)).state["window"]
            torch.testing.assert_close(together[row, place], alone[0, place], atol=1e-4, rtol=1e-4)
        led = torch.cat([state["led"][:1, :1], world.action_vector(action[:1]).unsqueeze(1)], 1)
        frames = noise["frame"][:1, :2]
        known = state["window"][:1, :1]

        def velocity(x, moment, step):
            shown = torch.cat([(1 - moment) * known + moment * frames[:, :1], x[:, 1:]], 1)
            return student.teacher_velocity(shown, x.new_full((1, 1), moment), led)

        film = EulerFlowSampler(video.SOLVER_STEPS).trajectory(velocity, frames)[-1]
    torch.testing.assert_close(together[0, 1], film[0, 1], atol=1e-4, rtol=1e-4)


def test_every_stage_cools_by_itself():
    how = PixelFit(updates=100, changes={"teacher_steps": 40, "ode_steps": 20})
    rates = [how.schedule(step) for step in range(100)]
    assert rates[0] == rates[40] == rates[60] == 1.0
    assert rates[39] < 0.2 and rates[59] < 0.2 and rates[99] < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("family", ["DiffusionForcing", pytest.param("CausVid", marks=pytest.mark.weekly)])
def test_a_little_world_is_fitted_swept_and_told_of(family, tmp_path, monkeypatch):
    for name, value in {"REAL_STEPS": 300, "HELD_OUT_STEPS": 300, "STARTS": 2, "FILM_SEQUENCES": 8}.items():
        monkeypatch.setattr(pixels, name, value)
    few = {"SWEPT_SEQUENCES": 4, "DRIFT_ROWS": 2, "DRIFT_AT": (1, 3), "STEPS_TRIED": (1, 2), "FEW_STEPS": (1,)}
    for name, value in {**few, "SOLVER_STEPS": 2, "RUNS": tmp_path}.items():
        monkeypatch.setattr(video, name, value)
    monkeypatch.setattr(video, "held_against", lambda *given: pixels.held_against(*given[:5], 4, 1))
    monkeypatch.setattr(pixels.held_against, "__defaults__", (4, 1))
    monkeypatch.setattr("benchmarks.playable.REAL_STEPS", 300)
    monkeypatch.setitem(video.GAMES, MINATAR, replace(video.GAMES[MINATAR], film_steps=4))
    how = replace(FITS[family, MINATAR], updates=3, batch_size=2, changes=LITTLE[family])
    monkeypatch.setitem(video.FITS, (family, MINATAR), how)
    video.measured(family, MINATAR, 0, 1.0)
    if family == video_variants.FAMILY:
        monkeypatch.setattr(video_variants, "FIT", how)
        kept("variant-clean-0", lambda: video_variants.varied("clean", 0, tmp_path), tmp_path)
    video_page.report(tmp_path, tmp_path / "out")
    page = (tmp_path / "out" / "video.md").read_text()
    told = video_page.NAMES[family]
    assert f"| {told} | 1 step |" in page and ("| its teacher |" in page) == (family == "CausVid")
    assert ("## Long dreams" in page) == (family == "DiffusionForcing")
    rows = [line.split(" | ")[0] for line in page.splitlines() if ", sigmoid schedule" in line]
    expected = ["| the frame, sigmoid schedule"]
    assert rows == (expected if family == video_variants.FAMILY else [])
