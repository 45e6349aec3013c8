import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from torchrl.data import Bounded, Composite, OneHot

from tests.support.running import train_arguments, wmc
from wmcomponents.cli.dataset import open_dataset
from wmcomponents.cli.errors import UsageError
from wmcomponents.cli.families import PRESETS
from wmcomponents.cli.families import PRETRAINING as PRETRAINING_PRESETS
from wmcomponents.cli.stages import check_stages
from wmcomponents.models import IRIS, PRETRAINING, Ensemble, families, presets
from wmcomponents.models.loading import load
from wmcomponents.pretrained.folder import sealed
from wmcomponents.pretrained.training_note import training_facts


def test_collecting_writes_steps_and_what_they_are(data):
    said = json.loads((data / "data.json").read_text())
    assert (said["env"], said["steps"], said["policy"], said["seed"]) == ("CartPole-v1", 300, "random", 0)
    assert said["episodes"] > 0 and said["mean_return"] > 5
    opened = open_dataset([data], sequence_length=10, batch_size=3, seed=0)
    assert opened.replay.sample().batch_size == (3, 10)
    assert opened.observation_spec["observation"].shape == (4,) and opened.action_spec.shape == (2,)


def test_collecting_tells_one_line_of_json_and_the_rest_elsewhere(tmp_path):
    ran = wmc("collect", "--env", "CartPole-v1", "--steps", 40, "--repeat-probability", 0.5, "--out", tmp_path / "d")
    assert ran.code == 0 and ran.out.count("\n") == 1
    assert ran.result["steps"] == 40
    assert "40 steps, " in ran.err and " MB in " in ran.err and "40 steps in" in ran.err


def test_the_same_seed_collects_the_same_data(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        wmc("collect", "--env", "CartPole-v1", "--steps", 30, "--seed", seed, "--out", tmp_path / name)
    a, b, c = (
        open_dataset([tmp_path / name], sequence_length=5, batch_size=1, seed=0).replay[:]["observation"]
        for name in "abc"
    )
    assert torch.equal(a, b) and not torch.equal(a, c)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--env", "CartPole-v1", "--steps", 0], 2, "--steps is at least 1"),
        (["--env", "CartPole-v1", "--repeat-probability", 2], 2, "--repeat-probability is in [0, 1]"),
        (["--env", "CartPole-v1", "--policy", "clever"], 2, "or the .zip of a Stable"),
        (["--env", "CartPole-v1", "--policy", "nowhere.zip"], 1, "no agent at nowhere.zip"),
        (["--env", "CartPole-v9"], 1, "Did you mean 'CartPole-v1'"),
    ],
)
def test_collecting_refuses_what_it_cannot_do(tmp_path, arguments, code, said):
    ran = wmc("collect", "--out", tmp_path / "d", *arguments)
    assert ran.code == code and said in ran.err and ran.out == ""
    assert not (tmp_path / "d").exists()


def test_collecting_overwrites_nothing(data):
    ran = wmc("collect", "--env", "CartPole-v1", "--out", data)
    assert ran.code == 2 and "exists already" in ran.err


def test_two_folders_become_one_buffer_that_breaks_between_them(data, tmp_path):
    wmc("collect", "--env", "CartPole-v1", "--steps", 7, "--seed", 5, "--out", tmp_path / "more")
    both = open_dataset([tmp_path / "more", data], sequence_length=5, batch_size=2, seed=0).replay[:]
    assert both.batch_size == (307,)
    assert both["next", "done"][6].item() and both["is_init"][7].item()
    assert both["next", "done"][6] == both["next", "truncated"][6] | both["next", "terminated"][6]


def test_damaged_and_foreign_data_is_refused(data, model, tmp_path):
    assert "is no data folder" in wmc("eval", "--model", model, "--data", tmp_path).err
    shutil.copytree(data, tmp_path / "bad")
    (tmp_path / "bad" / "data.json").write_text("{")
    ran = wmc("eval", "--model", model, "--data", tmp_path / "bad")
    assert ran.code == 1 and "is not valid JSON" in ran.err
    said = json.loads((data / "data.json").read_text())
    (tmp_path / "bad" / "data.json").write_text(json.dumps(said))
    assert "changed after it was written" in wmc("eval", "--model", model, "--data", tmp_path / "bad").err
    del said["sha256"]
    (tmp_path / "bad" / "data.json").write_bytes(sealed({**said, "transition_spec": {"kind": "Cloud"}}))
    assert "does not describe its steps" in wmc("eval", "--model", model, "--data", tmp_path / "bad").err
    (tmp_path / "bad" / "data.json").write_bytes(sealed({**said, "env": 3}))
    assert "names its environment by something" in wmc("eval", "--model", model, "--data", tmp_path / "bad").err
    wmc("collect", "--env", "Pendulum-v1", "--steps", 50, "--out", tmp_path / "pendulum")
    ran = wmc("eval", "--model", model, "--data", tmp_path / "pendulum", "--horizon", 5)
    assert ran.code == 1 and "observation [4] float32" in ran.err and "observation [3] float32" in ran.err
    ran = wmc(*train_arguments(data, tmp_path / "run"), "--data", data, tmp_path / "pendulum")
    assert ran.code == 1 and "different kinds of steps" in ran.err


def test_training_leaves_a_model_that_can_dream(model):
    assert load(model).capabilities >= {"decode", "reward", "continue"}
    assert json.loads((model.parent / "training.json").read_text())["env"] == "CartPole-v1"
    assert (model / "starts.safetensors").is_file()
    assert (model.parent / "logs").exists()


def test_training_goes_on_where_it_stopped_and_ends_the_same(data, model, tmp_path):
    ran = wmc(*train_arguments(data, tmp_path / "run", steps=1))
    assert ran.result["steps"] == 1
    ran = wmc(*train_arguments(data, tmp_path / "run", steps=3))
    assert ran.result["resumed_at"] == 1 and "resuming at update 1" in ran.err
    once, twice = load(model).state_dict(), load(tmp_path / "run" / "model").state_dict()
    assert all(torch.equal(once[key], twice[key]) for key in once)


def test_training_with_other_arguments_in_the_same_folder_is_refused(data, model):
    ran = wmc(*train_arguments(data, model.parent), "--seed", 5)
    assert ran.code == 2 and "seed 0 (now 5)" in ran.err


def test_training_goes_on_with_another_learning_rate_and_says_so(data, tmp_path):
    wmc(*train_arguments(data, tmp_path / "run", steps=1))
    ran = wmc(*train_arguments(data, tmp_path / "run", steps=2), "--lr", 0.5, "--warmup", 7)
    assert ran.code == 0, ran.err
    assert "going on with lr 0.001 (now 0.5), warmup 100 (now 7)" in ran.err and ran.result["resumed_at"] == 1


@pytest.mark.parametrize("name", ["run.json", "training.json"])
def test_a_damaged_note_is_said_to_be_damaged_or_passed_over(data, tmp_path, name):
    wmc(*train_arguments(data, tmp_path / "run", steps=1))
    (tmp_path / "run" / name).write_text("{")
    ran = wmc(*train_arguments(data, tmp_path / "run", steps=1))
    assert ran.code == (2 if name == "run.json" else 0)
    assert ("run.json is damaged: remove it" in ran.err) == (name == "run.json")


def test_steps_are_given_by_stage(data, tmp_path):
    arguments = [*train_arguments(data, tmp_path / "run"), "--family", "WorldModels", "--steps", "vision=1", "memory=2"]
    ran = wmc(*arguments)
    assert ran.code == 0, ran.err
    assert ran.result["steps"] == 3 and "world model (memory) 3/3" in ran.err and "loss_mixture" in ran.result["losses"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--family", "WorldModels"], "--steps 3 would leave the memory untrained, whose turn comes after 300 updates"),
        (["--family", "WorldModels", "--steps", "vision=2"], "names each stage of this family, such as 'vision=1000 "),
        (["--steps", "vision=2", "memory=2"], "trained in one stage: --steps is a number; got 'vision=2 memory=2'"),
        (["--steps", "many"], "--steps is a number, or stage=count of each stage; got 'many'"),
        (["--steps", "a=1", "a=2"], "--steps is a number, or stage=count"),
        (["--steps", "a=0", "b=0"], "at least 1 in all"),
        (["--device", "gpu0"], "--device is auto or one of cpu"),
        (["--device", "meta"], "--device is auto or one of cpu"),
        (["--accumulate", 0], "--accumulate is at least 1"),
    ],
)
def test_steps_and_devices_that_there_are_not_are_refused(data, tmp_path, arguments, said):
    ran = wmc(*train_arguments(data, tmp_path / "run"), *arguments)
    assert ran.code == 2 and said in ran.err, ran.err


def test_a_run_that_reached_no_checkpoint_may_be_begun_anew_with_other_arguments(data, tmp_path):
    wmc(*train_arguments(data, tmp_path / "run", steps=1))
    (tmp_path / "run" / "checkpoint.safetensors").unlink()
    assert wmc(*train_arguments(data, tmp_path / "run", steps=1), "--lr", 0.01).code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--steps", 0], 2, "--steps is at least 1"),
        (["--lr", -1], 2, "--lr is positive"),
        (["--sequence-length", 400], 1, "fewer than one sequence of 400"),
        (["--preset", "huge"], 2, "--preset of DreamerV3 is one of tiny, size1m"),
        (["--changes", "deter"], 2, "written name=value"),
        (
            ["--changes", "depht=3"],
            2,
            "--changes: DreamerV3Config has no 'depht'; it has network.deter, network.hidden, ",
        ),
        (["--family", "Dremer"], 2, "got 'Dremer'. Did you mean 'DreamerV3'?"),
        (["--family", "tdmpc-2"], 2, "got 'tdmpc-2'. Did you mean 'TDMPC2'?"),
        (["--family", "xyz"], 2, "--family is one of AVID, CausVid, DINOWM, DeltaIRIS, Diamond"),
        (["--members", "1"], 2, "--members is at least 2; got 1"),
        (["--preset", "size-12"], 2, "got 'size-12'. Did you mean 'size12m'?"),
    ],
)
def test_training_refuses_what_it_cannot_do(data, tmp_path, arguments, code, said):
    ran = wmc(*train_arguments(data, tmp_path / "run"), *arguments)
    assert ran.code == code and said in ran.err and ran.out == ""


def test_what_stands_beside_a_strangers_model_is_read_as_data(tmp_path):
    note = tmp_path / "training.json"
    facts = {"env": "CartPole-v1", "preset": "tiny", "steps": 3}
    note.write_text(json.dumps(facts))
    assert training_facts(tmp_path / "model") == facts
    for odd in ("[" * 10**5, "[]", json.dumps({**facts, "env": ["x"]}), json.dumps({**facts, "steps": "3"}), "NaN", ""):
        note.write_text(odd)
        assert training_facts(tmp_path / "model") == {}
    os.truncate(note, 2**40)
    assert training_facts(tmp_path / "model") == {}
    note.unlink()
    assert training_facts(tmp_path / "model") == {}
    note.symlink_to("/dev/zero")
    assert training_facts(tmp_path / "model") == {}


def test_families_and_presets_are_known_by_name_without_their_models():
    assert {family: presets(family) for family in families()} == PRESETS
    assert {family: presets(family) for family in PRETRAINING} == PRETRAINING_PRESETS


@pytest.mark.parametrize("command", [["train", "--data", "x", "--out", "y"], ["demo"]])
def test_a_mistyped_family_is_answered_before_anything_heavy_is_imported(command):
    code = (
        "import sys\nfrom wmcomponents.cli import main\n"
        f"code = main({[*command, '--family', 'Dremer']!r})\n"
        "print(code, [name for name in ('torch', 'numpy', 'gymnasium') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "2 []\n" and "Did you mean 'DreamerV3'?" in ran.stderr


def test_entries_of_the_config_are_changed(data, tmp_path):
    ran = wmc(*train_arguments(data, tmp_path / "run", steps=1), "--changes", "deter=64", "latent=gaussian")
    assert ran.code == 0, ran.err
    config = json.loads((tmp_path / "run" / "model" / "config.json").read_text())["config"]["network"]
    assert (config["deter"], config["latent"]) == (64, "gaussian")


def test_training_takes_any_family(data, tmp_path):
    for family in families():
        arguments = [*train_arguments(data, tmp_path / family, steps=1), "--family", family]
        if family == "WorldModels":
            arguments += ["--steps", "vision=1", "memory=1"]
        ran = wmc(*arguments)
        if "uint8 image" in ran.err:  # this family models images only, and says so
            assert ran.code == 1 and ran.out == ""
            continue
        assert ran.code == 0, ran.err
        assert ran.result["family"] == family


def test_several_models_of_a_family_are_trained_as_one_ensemble(data, tmp_path):
    arguments = [*train_arguments(data, tmp_path / "run", steps=1), "--members", 2]
    ran = wmc(*arguments)
    assert ran.code == 0 and (ran.result["family"], ran.result["members"]) == ("DreamerV3", 2), ran.err
    weights = [torch.cat([p.flatten() for p in one.parameters()]) for one in load(ran.result["model"]).members]
    assert len(weights) == 2 and not torch.equal(*weights)
    ran = wmc(*arguments, "--steps", 2)
    assert ran.code == 0 and ran.result["resumed_at"] == 1, ran.err
    ran = wmc(*arguments[:-1], 3)
    assert ran.code == 2 and "members 2 (now 3)" in ran.err, ran.err
    ran = wmc("agents", "--model", tmp_path / "run" / "model")
    fits = ran.result["agents"]
    assert ran.result["family"] == "Ensemble" and fits["dreamer_v3"]["fits"] and fits["sb3-ppo"]["fits"]
    assert "one image" in fits["diamond"]["why_not"] and "not numbers" in fits["sb3-sac"]["why_not"]


def test_an_ensemble_of_a_family_with_stages_says_how_many_steps_it_needs():
    specs = Composite(pixels=Bounded(0, 255, (16, 16, 3), dtype=torch.uint8)), OneHot(3)
    objective = Ensemble.of(lambda: IRIS("tiny", *specs), members=2).objective()
    with pytest.raises(UsageError, match="--steps of an ensemble is a number"):
        check_stages(objective, {"tokenizer": 1, "transformer": 1})
    with pytest.raises(UsageError, match="--steps of an ensemble 1 would leave the transformer untrained"):
        check_stages(objective, 1)


@pytest.mark.parametrize("suffix", ["gif", "png", "mp4"])
@pytest.mark.parametrize("compared", [False, True])
def test_a_dream_is_drawn(data, model, tmp_path, suffix, compared):
    pytest.importorskip("imageio_ffmpeg")
    out = tmp_path / f"dream.{suffix}"
    reality = ["--compare", data, "--burn-in", 3] if compared else []
    ran = wmc("dream", "--model", model, "--steps", 5, "--out", out, *reality)
    assert ran.code == 0, ran.err
    assert 0 < out.stat().st_size == ran.result["bytes"] < 2_000_000
    assert 1 <= ran.result["steps"] <= 5
    assert ("real_return" in ran.result) == compared


def test_the_same_seed_dreams_the_same(model, tmp_path):
    arguments = ["dream", "--model", model, "--steps", 5, "--out", tmp_path / "dream.png"]
    assert wmc(*arguments, "--seed", 3).result == wmc(*arguments, "--seed", 3).result


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--out", "dream.avi"], 2, "--out ends in one of .gif, .mp4, .webp, .png"),
        (["--steps", 0], 2, "--steps is at least 1"),
        (["--fps", 0], 2, "--fps is positive"),
        (["--policy", "clever"], 2, "or the .zip of a Stable"),
    ],
)
def test_dreaming_refuses_what_it_cannot_do(model, arguments, code, said):
    ran = wmc("dream", "--model", model, *arguments)
    assert ran.code == code and said in ran.err and ran.out == ""


def test_a_folder_without_a_model_is_said_to_have_none(tmp_path):
    for name in ("dream", "info"):
        ran = wmc(name, "--model", tmp_path)
        assert ran.code == 1 and "not a saved model" in ran.err


def test_evaluating_writes_a_report_and_a_figure(data, model, tmp_path):
    pytest.importorskip("matplotlib")
    ran = wmc(
        "eval", "--model", model, "--data", data, "--horizon", 6, "--sequences", 8, "--out", tmp_path / "report"
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert ran.result["errors"].keys() == {
        "observation, normalised MSE", "reward, mean absolute error", "termination, Brier score", "calibration_error",
    }  # fmt: skip
    assert set(ran.result["errors"]["reward, mean absolute error"]) == {"1", "2", "4", "6"}
    report = json.loads((tmp_path / "report" / "eval.json").read_text())
    assert len(report["horizon_errors"]["observation"]["observation"]["model"]) == 6
    assert (tmp_path / "report" / "horizon.png").is_file()
    assert "copy the last" in ran.err


def test_info_tells_what_a_model_is(model):
    ran = wmc("info", "--model", model, "--rows", 10)
    result = ran.result
    assert "network.deter=128" in "".join(ran.err.split())
    assert result["family"] == "DreamerV3" and result["trained"]["steps"] == 3
    assert sum(result["parameters_by_part"].values()) == result["parameters"]
    assert result["start_states"] == 32
    assert result["dream_bytes"] == 10 * 4 * (128 + 64 + 4)  # deter, stoch and the observation, in float32


def test_info_tells_what_is_installed():
    ran = wmc("info")
    assert {name: tuple(facts["presets"]) for name, facts in ran.result["families"].items()} == {
        name: presets(name) for name in families()
    }
    assert ran.result["extras"]["cli"] is True
    assert "size12m" in ran.err
