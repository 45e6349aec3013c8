"""What `wmc --help` and `wmc COMMAND --help` say."""

SUMMARIES = {
    "demo": "the whole story: collect, train, learn in the dream, return to reality",
    "collect": "take steps in a real environment and store them",
    "data import": "bring data of your own, or of others, into a data folder",
    "data info": "what a data folder holds",
    "data check": "what is wrong with stored steps: ends, shifts, leaked resets, ranges, rewards",
    "train": "fit a world model to stored steps; run it again to go on",
    "dream": "roll a model out into a GIF, MP4, WebP or PNG, alone or beside reality",
    "play": "play a model's dream by hand, in the browser",
    "eval": "how many steps ahead a model can be trusted; what an agent earns for real",
    "report": "how a model dreams, held against reality on one page: what to trust, and what not",
    "compare": "several reports side by side",
    "info": "what a saved model is; which families, presets and extras there are",
    "agents": "which agent fits which world model, and why not",
}

EXAMPLES: dict[str, list[str]] = {
    "demo": ["wmc demo", "wmc demo --env CartPole-v1 --seed 1 --out runs/demo"],
    "collect": [
        "wmc collect --env CartPole-v1 --steps 5000 --out data/cartpole",
        "wmc collect --env CartPole-v1 --steps 2000 --seed 1 --out data/cartpole-test",
        "wmc collect --env MinAtar/Breakout-v1 --steps 20000 --repeat-probability 0.5 --out data/breakout",
        "wmc collect --env dm_control/cartpole-swingup --from-pixels --steps 5000 --out data/swingup",
        "wmc collect --env CartPole-v1 --policy runs/demo/agent.zip --steps 2000 --out data/cartpole-agent",
    ],
    "data import": [
        "wmc data import arrays logs.npz data/logs",
        "wmc data import minari D4RL/pen/human-v2 data/pen",
        "wmc data import hdf5 demonstrations.hdf5 data/robot",
        "wmc data import lerobot downloads/pusht data/pusht --image-size 64",
        "wmc data import video films data/films --image-size 64 --options fps=10 actions=actions.npz",
        "wmc data import rlds openx/bridge/0.1.0 data/bridge --image-size 64 --options observations=image,state",
        "wmc data import crafter crafter-logs data/crafter",
        "wmc data import minecraft vpt data/minecraft --image-size 64",
        "wmc data import realestate10k cameras data/rooms --image-size 64 --options frames=rooms",
        "wmc data import carla drives data/drives --image-size 64 --options measured=speed",
    ],
    "data info": ["wmc data info data/cartpole"],
    "data check": ["wmc data check data/cartpole"],
    "train": [
        "wmc train --data data/cartpole --out runs/cartpole --preset tiny --steps 2000",
        "wmc train --data data/cartpole --out runs/cartpole --preset tiny --steps 4000  # goes on from 2000",
        "wmc train --data data/cartpole data/cartpole-agent --out runs/both --logger tensorboard",
        "wmc train --data data/breakout --out runs/breakout --preset tiny --steps 2000",
    ],
    "dream": [
        "wmc dream --model runs/cartpole/model --out dream.gif",
        "wmc dream --model runs/cartpole/model --compare data/cartpole-test --out dream.gif",
        "wmc dream --model runs/cartpole/model --policy runs/demo/agent.zip --steps 200 --out dream.mp4",
        "wmc dream --model runs/breakout/model --compare data/breakout --steps 30 --out filmstrip.png",
    ],
    "play": [
        "wmc play runs/cartpole/model",
        "wmc play runs/cartpole/model --data data/cartpole-test",
        "wmc play runs/breakout/model --port 8700 --out recordings",
    ],
    "eval": [
        "wmc eval --model runs/cartpole/model --data data/cartpole-test",
        "wmc eval --model runs/cartpole/model --data data/cartpole-test --horizon 64 --out reports/cartpole",
        "wmc eval --model runs/demo/model --data data/cartpole-test --agent runs/demo/agent.zip --episodes 20",
    ],
    "report": [
        "wmc report runs/cartpole/model --data data/cartpole-test",
        "wmc report runs/cartpole/model --env CartPole-v1 --horizon 50 --out reports/cartpole-far",
    ],
    "compare": ["wmc compare runs/cartpole/report reports/cartpole-far --out reports/side-by-side.html"],
    "info": ["wmc info", "wmc info --model runs/cartpole/model --rows 1024"],
    "agents": ["wmc agents", "wmc agents --model runs/cartpole/model"],
}

"""What a reader may type, command after command: each line needs only what the lines above it have written."""

WAY = [*EXAMPLES["collect"][:2], *(EXAMPLES[name][0] for name in ("train", "dream", "eval"))]
"""From nothing to a model that was held against reality."""

DETAILS = {
    "demo": """\
Collects real steps in rounds, fits a small world model to them, trains PPO only inside the model's dream, and evaluates
the agent in the real environment. Writes the model, the agent, a PNG and a GIF of dream against reality. Needs the
extras sb3 and viz.""",
    "collect": """\
Environments by id: Gymnasium's (CartPole-v1), ALE/<Game>-v5, MinAtar/<Game>-v1, dm_control/<domain>-<task>, and worlds
of goals (wmcomponents/TwoRooms-v0, wmcomponents/PushT-v0, wmcomponents/PointMaze-v0). The folder holds the steps in
TorchRL's layout and data.json, which says what they are. For held-out data collect again with another seed. An agent
is a file saved by Stable-Baselines3 (PPO, A2C, DQN, SAC, TD3, DDPG); loading one runs pickled code, so open only files
you trust.""",
    "data import": """\
SOURCE says how PATH is laid out: arrays (.npz), hdf5 (robomimic, D4RL, your own), minari, lerobot, rlds (Open X),
video, images, dreamer, crafter, minecraft (VPT), realestate10k, carla, dino_wm, or one that a module of --import
registers. OUT becomes a data folder like those of wmc collect. Sources have options of their own, given as --options
name=value. The size is told before anything is written, memory stays flat, and a command that is broken off leaves OUT
as it was.""",
    "data check": """\
Looks for NaN, flags that contradict each other, ends that are not marked or marked a step off, the first frame of the
next episode in place of the last of this one, actions shifted by one (by an inverse model), entries that never change,
ranges, dtypes and the scale of rewards. Says what it found and what to do; changes nothing. Its exit code is 0 where
nothing was found, 1 where something was, 2 where the data cannot be used.""",
    "data info": """\
Steps, episodes, what a step holds, where it comes from, and the bytes on the disk.""",
    "train": """\
Training can be stopped at any moment: the same command goes on where the last checkpoint stands, and a larger --steps
trains longer. At the end --out holds model/ (weights, config, start states: all that a dream needs), the checkpoint and
the logs. MAE, IJEPA and VJEPA are no worlds: they read the images alone and pretrain an encoder for one. With --agent
NAME --env ID a paper's whole agent is trained online from nothing, with --agent NAME --model DIR --dream-only any agent
in the dreams of a saved model.""",
    "dream": """\
Without --compare the dream begins in one of the model's start states and acts by --policy. With --compare it begins
from a real prefix and is given the real actions, and reality is drawn beside it. The suffix of --out decides:
.gif, .mp4 and .webp are videos with reward and termination under the frames, .png is a filmstrip. Needs the extra
viz.""",
    "play": """\
Serves one page on this machine and prints its link. Keys, gamepad and sliders act; the page pauses, steps, goes back,
branches, begins from saved starts, recorded steps, the real environment (which then goes along) or an image, and saves
what was played as a film or as data to train on. Needs the extra play.""",
    "eval": """\
The filter sees a real prefix, then the model imagines with the real actions: errors by horizon beside two baselines, a
table, a JSON file and a PNG. Use data that the model was not trained on. With --agent also the real returns of a
Stable-Baselines3 agent, one that sees observations or the model's latents.""",
    "report": """\
One HTML page that needs nothing beside itself, and one JSON of the same layout for every family: errors by horizon with
bands beside two baselines, pictures, rewards and ends at their word, the latent, whether dreams follow the actions,
returns of policies in the dream and in reality, what a search in the dream exploits, films, and what to conclude. Use
data that the model was not trained on. LPIPS, FID and FVD take networks of yours (--lpips, --fid, --fvd).""",
    "compare": """\
Numbers and curves of reports that wmc report wrote, a column and a colour each, on one page.""",
    "info": """\
With --model: family, config, parameters of each part, capabilities, specs, and the memory that a dream of --rows rows
takes. Without: families, presets with their parameter counts, and which extras are installed.""",
    "agents": """\
With --model: every agent is built in the saved model, and what does not fit is told with its reason and remedy, in the
words that building it raises. Without: the agents that there are, and the presets of the papers' whole agents.""",
}

MORE = "wmc COMMAND --help says more."
CODES = "Exit codes: 0 fine, 1 the run failed, 2 wrong usage. --debug shows the traceback of a failure."


def overview(group: str | None = None) -> str:
    """The help of `wmc` itself, or of a group of its commands such as `wmc data`."""
    width = max(map(len, SUMMARIES))
    told = {name: text for name, text in SUMMARIES.items() if group is None or name.startswith(f"{group} ")}
    commands = [f"  {name:<{width}}  {summary}" for name, summary in told.items()]
    if group is not None:
        return "\n".join([f"usage: wmc {group} COMMAND [OPTIONS]", "", "Commands:", *commands, "", MORE])
    way = [f"  {line}" for line in WAY]
    return "\n".join(
        [
            "usage: wmc COMMAND [OPTIONS]",
            "",
            "World models: from a real environment to an agent trained inside its dream.",
            "",
            "Commands:",
            *commands,
            "",
            "The way through:",
            *way,
            "",
            MORE,
            "Every command takes --import MODULE (what registers environments of your own), --json and --debug.",
            "Tables and progress are on standard error; in a pipe, or with --json, the last line on standard output",
            "is one JSON object.",
            CODES,
        ]
    )


def command_help(name: str) -> str:
    """The text above the options of one command."""
    summary = SUMMARIES[name]
    examples = [f"  {line}" for line in EXAMPLES[name]]
    return "\n".join([f"{summary[0].upper()}{summary[1:]}.", "", DETAILS[name], "", "Examples:", *examples, "", CODES])
