"""The page as a person has it, in a headless Chromium."""

import base64
import io
import os
import re
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image
from torchrl.data import Bounded, Composite, Unbounded

from tests.support.play_server import Running, toy_conversation
from wmcomponents.play import Conversation, Session
from wmcomponents.play.widget import answers
from wmcomponents.testing.toy import ToyWorldModel

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect
expect.set_options(timeout=20_000)

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    f"--{name}"
    for name in (
        *("no-sandbox", "disable-gpu", "disable-quic", "no-first-run"),
        *("disable-background-networking", "disable-component-update", "disable-sync"),
    )
]


@pytest.fixture(scope="module")
def browser():
    path = os.environ.get("WMC_CHROMIUM") or next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"needs a Chromium: install one of {', '.join(NAMES)}, or name it by WMC_CHROMIUM")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = Running(toy_conversation(tmp_path_factory.mktemp("played")))
    yield running
    running.stop()


@contextmanager
def page_of(browser, server, *, fails=False, **options):
    """A page of a server, which says nothing wrong on its console unless something is to fail."""
    context = browser.new_context(**options)
    page, said = context.new_page(), []
    page.on("console", lambda line: said.append(line.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(server.link)
    expect(page.locator(".state")).to_contain_text("You")
    expect(page.locator(".dream [data-fact=Return]")).to_be_visible()
    yield page
    context.close()
    assert fails or said == []


@pytest.fixture
def page(browser, server):
    """A page at the first step of a new branch."""
    with page_of(browser, server) as one:
        one.locator("aside input[type=number]").fill("1")
        button(one, "Begin").click()
        expect(clock(one)).to_have_text("0 / 0")
        yield one


def button(page, name):
    return page.get_by_role("button", name=name).first


def clock(page):
    return page.locator(".clock")


def press(page, *keys):
    """Press keys, each of which leads to another step."""
    for key in keys:
        before = clock(page).text_content()
        page.keyboard.press(key)
        expect(clock(page)).not_to_have_text(before)


def pixels(page, of="dream"):
    shown = page.locator(f".{of} canvas").evaluate("canvas => canvas.toDataURL('image/png')")
    return np.array(Image.open(io.BytesIO(base64.b64decode(shown.split(",")[1]))).convert("RGB"))


def branch(page):
    return page.locator(".branch[aria-current] strong").text_content()


def test_keys_act_and_the_frame_is_the_dream_s(page, server):
    expect(page).to_have_title("A toy – a dream")
    press(page, "ArrowLeft", "d", "1")
    expect(clock(page)).to_have_text("3 / 3")
    moments = server.conversation.session.branch.moments
    assert [moment.value for moment in moments[1:]] == [1, 2, 0]
    assert (pixels(page) == moments[-1].observation["pixels"]).all()
    expect(page.locator(".now")).to_have_text("Last action: NOOP")
    expect(page.locator(".dream [data-fact=Return] dd")).to_have_text(f"{moments[-1].total:.2f}")
    button(page, "right").click()
    expect(clock(page)).to_have_text("4 / 4")
    assert server.conversation.session.moment.value == 2


def test_it_runs_until_it_is_paused_with_the_keys_that_are_held(page, server):
    page.get_by_label("Steps a second").select_option("60")
    page.keyboard.down("ArrowRight")
    page.keyboard.press("p")
    expect(button(page, "Pause")).to_be_visible()
    expect(clock(page)).to_have_text(re.compile(r"\d\d / \d\d"))
    page.keyboard.up("ArrowRight")
    page.keyboard.press("p")
    expect(button(page, "Run")).to_be_visible()
    page.keyboard.press("b")  # done after every step that was asked for before it
    expect(page.locator(".branch[aria-current]")).to_contain_text("at step")
    moments = list(server.conversation.session.branch.moments)
    assert [moment.value for moment in moments[1:5]] == [2] * 4
    page.wait_for_timeout(100)
    assert server.conversation.session.branch.moments == moments


def test_one_goes_back_and_another_way(page, server):
    press(page, "ArrowLeft", "ArrowLeft", "ArrowLeft")
    whole, third = branch(page), pixels(page)
    press(page, ",", ",")
    expect(clock(page)).to_have_text("1 / 3")
    press(page, "ArrowRight")
    expect(clock(page)).to_have_text("2 / 2")
    assert branch(page) != whole
    expect(page.locator(".branch[aria-current]")).to_contain_text(f"from {whole} at step 1")
    page.keyboard.press("[")
    expect(clock(page)).to_have_text("3 / 3")
    assert branch(page) == whole and (pixels(page) == third).all()
    page.get_by_label("Step on this branch").fill("1")
    expect(clock(page)).to_have_text("1 / 3")
    page.locator("h1").click()
    press(page, "ArrowLeft", "ArrowLeft")  # the same actions: the future that is there
    assert branch(page) == whole and (pixels(page) == third).all()
    press(page, "Home")
    press(page, "End")
    button(page, "Branch").click()
    expect(page.locator(".branch[aria-current]")).to_contain_text(f"from {whole} at step 3")
    press(page, "l")
    expect(clock(page)).to_have_text("4 / 4")


def test_an_image_begins_a_dream(page, server):
    file = io.BytesIO()
    Image.fromarray(np.full((30, 50, 3), 200, np.uint8)).save(file, "PNG")
    image = {"name": "x.png", "mimeType": "image/png", "buffer": file.getvalue()}
    page.locator("input[type=file]").set_input_files([image])
    expect(page.locator(".branch[aria-current]")).to_contain_text("an image of yours")
    page.locator("input[type=file]").set_input_files([{**image, "buffer": b"none"}])
    expect(page.locator(".notice")).to_contain_text("no image that can be read")


def test_two_viewers_see_the_same_and_one_drives(browser, page, server):
    with page_of(browser, server) as second:
        expect(second.locator(".state")).to_have_text("You watch, 2 viewers")
        press(page, "ArrowLeft", "ArrowRight")
        expect(clock(second)).to_have_text("2 / 2")
        assert (pixels(page) == pixels(second)).all()
        expect(button(second, "Run")).to_be_disabled()
        second.keyboard.press("ArrowLeft")
        button(second, "Take over").click()
        expect(second.locator(".state")).to_contain_text("You drive")
        expect(page.locator(".state")).to_contain_text("You watch")
        press(second, "ArrowLeft")
        expect(clock(page)).to_have_text("3 / 3")
    expect(page.locator(".state")).to_contain_text("You drive")


def test_what_is_played_is_saved_and_the_overlay_is_drawn(page, server):
    press(page, "ArrowLeft")
    plain = pixels(page)
    page.keyboard.press("o")
    expect(page.get_by_label("Show where the action matters")).to_be_checked()
    assert (pixels(page) != plain).any()
    page.get_by_label("Show where the action matters").uncheck()
    button(page, "Data").click()
    expect(page.locator(".saved li")).to_contain_text("1 steps behind 0 in a data folder")


def test_it_can_be_used_without_eyes_or_a_mouse(page):
    nameless = """() => [...document.querySelectorAll('button, select, input, canvas')]
        .filter((each) => each.offsetParent && !(each.textContent.trim() || each.labels?.length || each.ariaLabel))
        .map((each) => each.outerHTML)"""
    assert page.evaluate(nameless) == []
    page.wait_for_timeout(700)
    press(page, "ArrowLeft")
    expect(page.locator("[aria-live=polite]")).to_contain_text("Step 1, return")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("branch here")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    button(page, "Step").focus()
    page.keyboard.press("Enter")
    expect(clock(page)).to_have_text("2 / 2")


def test_nothing_is_cut_off_on_a_narrow_screen(browser, server):
    with page_of(browser, server, viewport={"width": 360, "height": 700}) as narrow:
        assert narrow.evaluate("document.documentElement.scrollWidth") <= 360


def test_numbers_have_sliders(browser, tmp_path):
    model = ToyWorldModel(Composite(observation=Unbounded(3)), Bounded(-2, 2, (2,), dtype=torch.float32))
    session = Session(model, seed=0)
    running = Running(Conversation(session, tmp_path))
    with page_of(browser, running) as page:
        sliders = page.locator(".actions input")
        sliders.nth(1).fill("-1")
        page.locator("h1").click()
        press(page, "ArrowRight")
        assert session.moment.value == [2.0, -1.0]
        press(page, ".")
        assert session.moment.value == [0.0, -1.0]
    running.stop()


def test_a_gamepad_acts(browser, server):
    with page_of(browser, server) as page:
        page.evaluate("""() => {
            window.pad = { buttons: Array.from({ length: 17 }, () => ({ pressed: false })), axes: [0, 0] };
            navigator.getGamepads = () => [window.pad];
            window.dispatchEvent(new Event("gamepadconnected"));
        }""")
        button(page, "Begin").click()
        expect(clock(page)).to_have_text("0 / 0")
        page.evaluate("window.pad.axes[0] = 0.9")
        expect(clock(page)).to_have_text("1 / 1")
        page.evaluate("window.pad.axes[0] = 0")
        page.wait_for_timeout(50)
        page.evaluate("window.pad.buttons[14].pressed = true")
        expect(clock(page)).to_have_text("2 / 2")
        assert [moment.value for moment in server.conversation.session.branch.moments[1:]] == [2, 1]


def test_the_page_connects_again_when_the_server_was_restarted(browser, tmp_path):
    first = Running(toy_conversation(tmp_path))
    with page_of(browser, first, fails=True) as page:
        press(page, "ArrowLeft")
        first.stop()
        expect(page.locator(".state")).to_have_text("Not connected")
        expect(page.locator(".notice")).to_contain_text("Trying again")
        second = Running(toy_conversation(tmp_path), port=first.port)
        expect(page.locator(".state")).to_contain_text("You drive", timeout=10_000)
        expect(page.locator(".notice")).to_contain_text("started anew")
        press(page, "ArrowLeft")
        expect(clock(page)).to_have_text("1 / 1")
    second.stop()


def test_the_same_page_lives_in_a_notebook(browser, server, tmp_path):
    """With the frontend's side of a widget played by this test: what it sends is answered, and drawn."""
    conversation = toy_conversation(tmp_path)
    with page_of(browser, server) as page:
        page.expose_function("toPython", lambda content: [list(one) for one in answers(conversation, content, [])])
        page.evaluate("""async () => {
            const { default: widget } = await import("/play.js");
            let heard = null;
            const model = {
                on: (name, callback) => { heard = callback; },
                send: async (content) => {
                    const answers = await window.toPython(content);
                    if (!window.drops) for (const one of answers) heard({}, [new DataView(new Uint8Array(one).buffer)]);
                },
            };
            const el = document.createElement("div");
            document.body.replaceChildren(el);
            widget.render({ model, el });
        }""")
        expect(page.locator(".state")).to_contain_text("You drive")
        page.locator(".wmc").focus()
        press(page, "ArrowRight")
        expect(page.locator(".now")).to_have_text("Last action: RIGHT")
        assert (pixels(page) == conversation.session.moment.observation["pixels"]).all()
        page.evaluate("window.drops = true")
        page.keyboard.press("ArrowRight")  # its frame is left out, as for a viewer that reads slowly
        page.wait_for_timeout(50)
        page.evaluate("window.drops = false")
        press(page, "Home", "ArrowLeft")
        expect(page.locator(".now")).to_have_text("Last action: LEFT")
