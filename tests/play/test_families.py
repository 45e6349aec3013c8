"""Every family is played: what its saved model can, and nothing that it cannot."""

import json

import pytest

from tests.support.pages import ROOT
from wmcomponents.play import open_dream
from wmcomponents.play.commands import read_command
from wmcomponents.play.conversation import read_message

SAVED = sorted(path.parent for path in (ROOT / "tests" / "saved").glob("*/model"))


@pytest.mark.filterwarnings("ignore:.*written by an early wmcomponents")
@pytest.mark.parametrize("folder", SAVED, ids=lambda folder: folder.name)
def test_every_saved_model_is_played(folder, tmp_path):
    conversation = open_dream(folder / "model", reality=False, out=tmp_path, seed=0)
    session = conversation.session
    idle = session.controls.idle
    other = session.controls.value_of(session.controls.alternatives()[-1])

    def done(name, **entries):
        conversation.do(read_command(json.dumps({"do": name, **entries})))
        return read_message(conversation.frame(1))

    for value in (other, other, idle):
        if not session.moment.ended:
            header, blobs = done("step", action=value)
            assert header["total"] is not None and len(blobs[0]) > 20 and header["step"] == session.cursor
    first = read_message(conversation.hello())[0]
    assert first["controls"]["kind"] == session.controls.kind and first["family"] == type(session.model).__name__
    shown = [moment.observation for moment in session.branch.moments]
    done("go", step=0)
    done("overlay", saliency=True)
    done("fork")
    done("step", action=other)
    again = session.moment.observation
    assert all((again[key] == shown[1][key]).all() for key in again)  # the same, whatever was looked at meanwhile
