from tests.support.running import wmc


def test_a_data_folder_tells_its_steps_episodes_and_entries(data):
    ran = wmc("data", "info", data)
    assert ran.code == 0, ran.err
    told = ran.result
    assert told["steps"] == 300 and told["env"] == "CartPole-v1" and told["streams"] == 1
    assert told["episodes"] > 3 and told["mean_return"] > 5 and told["longest_episode"] >= told["mean_return"]
    assert told["entries"]["observation"] == "float32 [4]" and told["entries"]["next/reward"] == "float32 [1]"
    assert told["bytes"] == sum(file.stat().st_size for file in data.glob("steps-*.bin"))
    assert "observation" in ran.err and "CartPole-v1" in ran.err


def test_what_is_no_data_folder_is_said(tmp_path):
    ran = wmc("data", "info", tmp_path / "nowhere")
    assert ran.code == 1 and "holds no data.json" in ran.err
