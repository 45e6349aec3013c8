import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wmcomponents.play.commands import BadCommandError, read_command


@pytest.mark.parametrize(
    ("text", "name", "entries"),
    [
        ('{"do": "step", "action": 2, "id": 7}', "step", {"action": 2, "luck": None}),
        ('{"do": "step", "action": [0.5, -1], "luck": true}', "step", {"action": [0.5, -1], "luck": True}),
        ('{"do": "begin", "kind": "data", "number": 3}', "begin", {"kind": "data", "number": 3, "seed": None}),
        ('{"do": "save", "as": "real data"}', "save", {"as": "real data"}),
        ('{"do": "fork"}', "fork", {}),
    ],
)
def test_a_command_is_read(text, name, entries):
    command = read_command(text)
    assert (command.name, command.entries) == (name, entries)
    assert command.id == json.loads(text).get("id", 0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "JSON"),
        ("nonsense", "JSON"),
        ("[1, 2]", "a list"),
        ("null", "NoneType"),
        ("[" * 8000, "JSON"),
        ('{"do": "step", "action": 1e400}', "whole number"),
        ('{"do": "step", "action": NaN}', "NaN"),
        ('{"do": "shutdown"}', "'do' is one of"),
        ('{"do": ["step"]}', "'do' is one of"),
        ('{"do": "go"}', "'step' is a whole number"),
        ('{"do": "go", "step": true}', "'step' is a whole number"),
        ('{"do": "go", "step": -1}', "from 0 on"),
        ('{"do": "go", "step": 10000000000000000000000}', "from 0 on"),
        ('{"do": "go", "step": 1, "also": 2}', "no entry 'also'"),
        ('{"do": "go", "step": 1, "id": "x"}', "'id' is a whole number"),
        ('{"do": "save", "as": "../../etc"}', "'as' is gif"),
        ('{"do": "begin", "kind": "image"}', "'kind' is saved"),
        ('{"do": "begin", "kind": ["saved"]}', "'kind' is saved"),
        (json.dumps({"do": "step", "action": [0] * 9000}), "at most"),
    ],
)
def test_what_is_no_command_is_refused_in_words(text, words):
    with pytest.raises(BadCommandError, match=words) as refused:
        read_command(text)
    assert len(str(refused.value)) < 300


WORDS = st.text('ab {}[]":,0\\\u2028', max_size=12)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | WORDS
JSON = LEAVES | st.lists(LEAVES, max_size=3) | st.dictionaries(WORDS, LEAVES, max_size=2)
NAMES = st.sampled_from(["step", "go", "fork", "switch", "begin", "save", "overlay", "drive", "x"])
ENTRIES = st.dictionaries(
    st.sampled_from(["action", "luck", "step", "branch", "kind", "number", "seed", "as", "saliency", "id"]), JSON
)


@given(WORDS | st.builds(lambda name, rest: json.dumps({"do": name, **rest}), NAMES, ENTRIES))
def test_whatever_comes_is_a_command_or_refused(text):
    try:
        command = read_command(text)
    except BadCommandError:
        return
    assert isinstance(command.id, int) and command.name != "x"
