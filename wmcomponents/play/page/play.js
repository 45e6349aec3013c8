// What a person sees of a dream, and does to it. `mount` draws it into an element and speaks over any transport; the
// default export shows the same in a notebook (anywidget).

const RATES = [1, 2, 5, 10, 15, 20, 30, 60];
const KEYS = {
  ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down",
  KeyA: "left", KeyD: "right", KeyW: "up", KeyS: "down", Space: "fire",
};
const DEAD = 0.2; // of a gamepad's stick, around its middle
const HELP = [
  ["← ↑ → ↓ or W A S D", "act; while paused, each press is one step"],
  ["Space", "fire, where there is such an action; else run or pause"],
  ["1 – 9, 0", "the first ten actions"],
  ["P", "run or pause"],
  [". and ,", "one step on, one step back"],
  ["Home, End", "the start and the end of the branch"],
  ["B", "branch here"],
  ["[ and ]", "the branch before, the branch after"],
  ["L", "one step with other luck: the noise is drawn anew"],
  ["R", "begin anew"],
  ["O", "show where the action matters"],
  ["T", "take over, where somebody else drives"],
  ["?", "this list"],
];

// -- small things ------------------------------------------------------------------------------------------------

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

const short = (number) => number == null ? "–" : Math.abs(number) >= 100 ? number.toFixed(0) : number.toFixed(2);
const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

function readMessage(data) {
  const view = data instanceof ArrayBuffer ? new DataView(data) : new DataView(data.buffer, data.byteOffset, data.byteLength);
  const bytes = (from, size) => new Uint8Array(view.buffer, view.byteOffset + from, size);
  const length = view.getUint32(0);
  const header = JSON.parse(new TextDecoder().decode(bytes(4, length)));
  let at = 4 + length;
  const blobs = header.blobs.map((size) => { const blob = bytes(at, size); at += size; return blob; });
  return [header, blobs];
}

// -- the hands: which action is held ---------------------------------------------------------------------------------

class Hands {
  constructor(controls) {
    this.controls = controls;
    this.chosen = structuredClone(controls.idle); // what holds where no hand does anything else
    this.held = new Set(); // buttons, by keys, the screen or a gamepad
    this.direct = null; // an action that is held by its number
    this.axes = {};
  }

  get value() {
    const { kind, buttons, has_idle, idle, low, high } = this.controls;
    if (kind === "choice") {
      if (this.direct !== null) return (this.chosen = this.direct);
      const known = new Set(buttons.flatMap((each) => each ?? []));
      const held = [...this.held].filter((each) => known.has(each));
      if (!held.length) return has_idle && this.usesButtons ? idle : this.chosen;
      let best = this.chosen, size = 0;
      buttons.forEach((needs, index) => {
        if (needs?.length > size && needs.every((each) => held.includes(each))) [best, size] = [index, needs.length];
      });
      return (this.chosen = best);
    }
    if (kind !== "numbers") return this.chosen;
    const value = [...this.chosen];
    const pull = (place, down, up) => {
      if (place >= value.length) return;
      if (this.held.has(down)) value[place] = low[place];
      if (this.held.has(up)) value[place] = high[place];
    };
    pull(0, "left", "right");
    pull(1, "down", "up");
    for (const [place, share] of Object.entries(this.axes)) {
      if (place < value.length) value[place] = low[place] + (high[place] - low[place]) * (share + 1) / 2;
    }
    return value;
  }

  get usesButtons() { return this.controls.buttons?.some((each) => each?.length); }

  knows(button) {
    if (this.controls.kind === "numbers") {
      return ["left", "right", "up", "down"].indexOf(button) < 2 * this.controls.idle.length && button !== "fire";
    }
    return Boolean(this.controls.buttons?.some((each) => each?.includes(button)));
  }

  release() { this.held.clear(); this.direct = null; this.axes = {}; }
}

// -- the page ------------------------------------------------------------------------------------------------------

export function mount(root, connect) {
  root.classList.add("wmc");
  let hello = null, hands = null, frame = null, drives = false, viewers = 1, online = false;
  let running = false, rate = 10, waiting = 0, sentAt = 0, counter = 0, drawn = 0, timer = null, spoken = 0, next = null, greeted = false;
  const sent = new Map();
  const rows = {};

  // The frame of the page.
  const title = make("h1", {}, "Play a dream");
  const state = make("span", { class: "state" }, "Connecting…");
  const takeOver = make("button", { type: "button", class: "quiet", hidden: true, onclick: () => ask("drive") }, "Take over");
  const helpButton = make("button", { type: "button", class: "quiet", "aria-haspopup": "dialog", onclick: () => help.showModal() }, "Keys ", make("kbd", {}, "?"));
  const notice = make("p", { class: "notice", role: "alert", hidden: true });
  const live = make("p", { class: "unseen", role: "status", "aria-live": "polite" });
  const stage = make("div", { class: "stage" });
  const figures = {};
  for (const of of ["reality", "dream"]) {
    const canvas = make("canvas", { role: "img", "aria-label": of, width: 64, height: 64 });
    const facts = make("dl", { class: "facts" });
    const note = make("p", { class: "note" });
    const box = make("figure", { class: of, hidden: of === "reality" }, make("figcaption", {}, of === "dream" ? "Dream" : "Reality"), canvas, facts, note);
    figures[of] = { box, canvas, facts, note };
    stage.append(box);
  }
  const slider = make("input", { type: "range", min: 0, max: 0, value: 0, "aria-label": "Step on this branch", oninput: () => go(Number(slider.value)) });
  const clock = make("output", { class: "clock" }, "0 / 0");
  const button = (words, key, title, action, extra = "") => make("button", { type: "button", title, class: extra, onclick: action }, words, key ? make("kbd", {}, key) : null);
  const runButton = button("Run", "P", "Run or pause", () => run(!running), "main");
  const speed = make("select", { "aria-label": "Steps a second", onchange: () => { rate = Number(speed.value); } },
    ...RATES.map((each) => make("option", { value: each, selected: each === rate }, `${each} a second`)));
  const transport = make("div", { class: "row", role: "group", "aria-label": "Time" },
    button("Back", ",", "One step back", () => go(frame.step - 1)),
    runButton,
    button("Step", ".", "One step with the action that is held", () => step()),
    button("Other luck", "L", "One step whose noise is drawn anew: the same action may lead elsewhere", () => step(true)),
    button("Branch", "B", "A second future from here; the first one stays", () => ask("fork")),
    speed);
  const actions = make("div", { class: "actions" });
  const actionNow = make("span", { class: "now" });
  const branches = make("ul", { class: "branches", "aria-label": "Branches" });
  const kind = make("select", { "aria-label": "Where to begin", onchange: () => showNumber() });
  const number = make("input", { type: "number", min: 0, placeholder: "any", "aria-label": "Which one" });
  const upload = make("input", { type: "file", accept: "image/png,image/jpeg,image/webp,image/gif,image/bmp", class: "unseen", id: "wmc-upload", onchange: () => sendImage(upload.files[0]) });
  const uploadLabel = make("label", { for: "wmc-upload", class: "button", hidden: true }, "Begin from an image…");
  const overlay = make("input", { type: "checkbox", onchange: () => ask("overlay", { saliency: overlay.checked }) });
  const saves = make("div", { class: "row" });
  const savedList = make("ul", { class: "saved", "aria-label": "Saved" });
  const help = make("dialog", { "aria-label": "Keys" },
    make("h2", {}, "Keys"),
    make("table", {}, make("tbody", {}, ...HELP.map(([keys, words]) => make("tr", {}, make("th", { scope: "row" }, keys), make("td", {}, words))))),
    make("p", {}, "A gamepad works too: stick or cross for the directions, its first button to fire, the start button to run or pause."),
    make("form", { method: "dialog" }, make("button", { autofocus: true }, "Close")));
  const section = (words, ...children) => make("section", { "aria-label": words }, make("h2", {}, words), ...children);
  root.replaceChildren(
    make("header", {}, title, make("div", { class: "row" }, state, takeOver, helpButton)),
    notice, live,
    make("div", { class: "columns" },
      make("main", {}, stage,
        make("div", { class: "timeline" }, slider, clock), transport,
        section("Action", actions, actionNow)),
      make("aside", {},
        section("Branches", branches),
        section("Begin", make("div", { class: "row" }, kind, number, button("Begin", "R", "A new branch from there", begin)), upload, uploadLabel),
        section("Look", make("label", { class: "check" }, overlay, "Show where the action matters ", make("kbd", {}, "O"))),
        section("Save this branch", saves, savedList))),
    help);

  // -- asking ----------------------------------------------------------------------------------------------------
  function ask(what, entries = {}) {
    if (!online) return;
    const id = ++counter;
    if (what !== "drive") sent.set(id, performance.now());
    wire.send(JSON.stringify({ do: what, id, ...entries }));
    return id;
  }
  function step(luck = false) {
    if (!drives || !hands || !frame) return;
    if (waiting) { next = running ? null : { value: hands.value, luck }; return; } // one press waits, not more
    take(hands.value, luck);
  }
  function take(value, luck) {
    if (frame.ended && frame.step === frame.steps) { run(false); return say("The episode is over: go back, or begin anew."); }
    sentAt = performance.now();
    next = null;
    waiting = ask("step", { action: value, ...(luck ? { luck: true } : {}) });
    showAction();
  }
  function go(to) {
    run(false);
    if (frame && to >= 0 && to <= frame.steps) ask("go", { step: to });
  }
  function run(on) {
    running = on && drives;
    runButton.firstChild.textContent = running ? "Pause" : "Run";
    runButton.setAttribute("aria-pressed", running);
    if (running) step();
    else announce();
  }
  function begin() {
    const entries = { kind: kind.value };
    if (number.value !== "" && !number.hidden) entries[kind.value === "reality" ? "seed" : "number"] = Math.max(0, Math.floor(Number(number.value)));
    run(false);
    ask("begin", entries);
  }
  async function sendImage(file) {
    if (!file) return;
    upload.value = "";
    if (file.size > 8_000_000) return say("An image has at most 8 MB.");
    run(false);
    wire.send(await file.arrayBuffer());
  }
  function neighbour(by) {
    const all = frame?.branches.map((each) => each.number) ?? [];
    const next = all[all.indexOf(frame.branch) + by];
    if (next !== undefined) { run(false); ask("switch", { branch: next }); }
  }

  // -- hearing ------------------------------------------------------------------------------------------------------
  const wire = connect({
    opened() { online = true; waiting = 0; next = null; sent.clear(); },
    closed(why) { online = false; drives = false; run(false); showRole(); say(`${why} Trying again…`, true); },
    received(data) {
      const [header, blobs] = readMessage(data);
      ({ hello: heardHello, frame: heardFrame, role: heardRole, error: heardError, saved: heardSaved })[header.kind](header, blobs);
    },
  });
  function heardHello(header) {
    const isOther = hello && hello.session !== header.session;
    hello = header; greeted = false;
    hands = new Hands(header.controls);
    title.textContent = header.title;
    document.title = root.closest(".wmc-page") ? `${header.title} – a dream` : document.title;
    fillStarts(); fillActions(); fillSaves();
    say(isOther ? "The server was started anew: this is a new session. Recordings that were saved are still on its disk." : "");
  }
  function heardRole(header) {
    ({ drives, viewers } = header);
    if (!drives) { run(false); waiting = 0; next = null; }
    showRole();
  }
  function heardError(header) {
    if (header.id === waiting) { waiting = 0; next = null; }
    sent.delete(header.id);
    run(false);
    say(header.text);
  }
  function heardSaved(header, blobs) {
    const item = make("li", {}, `${header.path}: ${header.words} `);
    if (blobs.length) {
      const url = URL.createObjectURL(new Blob([blobs[0]], { type: header.type }));
      item.append(make("a", { href: url, download: header.name }, "Download"));
    }
    savedList.prepend(item);
    tell(`Saved ${header.path}`);
  }
  async function heardFrame(header, blobs) {
    const isNew = !frame || frame.branch !== header.branch;
    const isStep = drives && waiting !== 0 && header.id >= waiting; // its own frame may have been left out
    frame = header;
    if (!greeted) greeted = true; // what was said at the greeting stays until something is done
    else if (isStep || isNew) say("");
    const order = ++drawn;
    const images = await Promise.all(blobs.map((blob, i) => createImageBitmap(new Blob([blob], { type: header.pictures[i].type }))));
    if (order === drawn) {
      header.pictures.forEach((picture, i) => paint(figures[picture.of].canvas, images[i]));
      showFacts();
    }
    const begun = sent.get(header.id);
    if (begun !== undefined) {
      const latency = performance.now() - begun;
      for (const id of sent.keys()) if (id <= header.id) sent.delete(id);
      root.dataset.latency = latency.toFixed(1);
      root.dispatchEvent(new CustomEvent("wmc-frame", { detail: { step: header.step, branch: header.branch, latency } }));
    }
    if (isStep) waiting = 0;
    if (isStep && next && !running) take(next.value, next.luck);
    if (header.ended && header.step === header.steps) run(false);
    if (running && isStep) {
      clearTimeout(timer);
      timer = setTimeout(() => running && step(), Math.max(0, sentAt + 1000 / rate - performance.now()));
    }
    if (!running) announce();
  }

  // -- showing ---------------------------------------------------------------------------------------------------------
  function paint(canvas, image) {
    if (canvas.width !== image.width || canvas.height !== image.height) {
      canvas.width = image.width; canvas.height = image.height;
      canvas.classList.toggle("pixels", image.width <= 128);
      canvas.style.setProperty("--ratio", image.width / image.height);
    }
    canvas.getContext("2d").drawImage(image, 0, 0);
    image.close();
  }
  function fact(list, name, value, share = null) {
    let row = rows[list.parentElement.className + name];
    if (!row) {
      const dd = make("dd"), meter = share === null ? null : make("span", { class: "bar", "aria-hidden": "true" }, make("i"));
      row = rows[list.parentElement.className + name] = { dd, meter };
      list.append(make("div", { "data-fact": name }, make("dt", {}, name), dd, meter));
    }
    row.dd.textContent = value;
    if (row.meter) row.meter.firstChild.style.width = `${100 * Math.min(1, Math.max(0, share ?? 0))}%`;
  }
  function showFacts() {
    const { dream, reality } = figures;
    if (hello.reward) { fact(dream.facts, "Return", short(frame.total)); fact(dream.facts, "Reward", short(frame.reward)); }
    if (hello.chance) fact(dream.facts, "P(end)", frame.chance == null ? "–" : `${Math.round(100 * frame.chance)} %`, frame.chance ?? 0);
    if (hello.uncertainty) fact(dream.facts, "Uncertainty", frame.uncertainty == null ? "–" : frame.uncertainty.toPrecision(2), (frame.uncertainty ?? 0) / (1 + (frame.uncertainty ?? 0)));
    dream.note.textContent = frame.ended ? "The episode ended here." : "";
    dream.box.classList.toggle("ended", frame.ended);
    dream.canvas.setAttribute("aria-label", `The dream at step ${frame.step}`);
    const real = frame.real;
    reality.box.hidden = !real;
    if (real) {
      fact(reality.facts, "Return", short(real.total)); fact(reality.facts, "Reward", short(real.reward));
      reality.note.textContent = real.terminated ? "Reality ended here." : real.truncated ? "Reality was cut here." : "";
      if (!real.repeats) reality.note.textContent += " The environment did not repeat itself: this is another course of events.";
      reality.box.classList.toggle("ended", real.terminated || real.truncated);
      reality.canvas.setAttribute("aria-label", `Reality at step ${frame.step}`);
    }
    slider.max = frame.steps; slider.value = frame.step;
    slider.setAttribute("aria-valuetext", `Step ${frame.step} of ${frame.steps}`);
    clock.textContent = `${frame.step} / ${frame.steps}`;
    overlay.checked = frame.saliency;
    showBranches(); showAction(); showRole();
  }
  function showBranches() {
    const items = frame.branches.map((each) => {
      const current = each.number === frame.branch;
      const from = each.parent ? `from ${each.parent[0]} at step ${each.parent[1]}` : each.start;
      const words = [`${each.steps} steps`, hello.reward ? `return ${short(each.total)}` : null, each.ended ? "ended" : null].filter(Boolean).join(", ");
      const pick = make("button", { type: "button", class: "branch", "aria-current": current ? "true" : null, disabled: !drives, onclick: () => { run(false); ask("switch", { branch: each.number }); } },
        make("strong", {}, `${each.number}`), make("span", {}, from, make("small", {}, words)));
      const remove = make("button", { type: "button", class: "quiet", "aria-label": `Remove branch ${each.number}`, title: "Remove", disabled: !drives || current, onclick: () => ask("remove", { branch: each.number }) }, "×");
      return make("li", {}, pick, remove);
    });
    const key = JSON.stringify([frame.branches, frame.branch, drives]);
    if (branches.dataset.key !== key) {
      const focused = root.ownerDocument.activeElement?.closest?.(".branch") && branches.contains(root.ownerDocument.activeElement);
      branches.replaceChildren(...items); branches.dataset.key = key;
      if (focused) branches.querySelector("[aria-current]")?.focus();
    }
  }
  function showAction() {
    if (!hands) return;
    const value = hands.value;
    if (hello.controls.kind === "choice") {
      actions.querySelectorAll("button").forEach((each, index) => each.setAttribute("aria-pressed", index === value));
    } else if (hello.controls.kind === "numbers") {
      actions.querySelectorAll("input").forEach((each, index) => {
        if (root.ownerDocument.activeElement !== each || hands.held.size) each.value = value[index];
        each.nextElementSibling.textContent = short(value[index]);
      });
    }
    actionNow.textContent = frame?.action == null ? "" : `Last action: ${frame.action}`;
  }
  function showRole() {
    const ms = root.dataset.latency;
    const others = viewers > 1 ? `, ${viewers} viewers` : "";
    state.textContent = !online ? "Not connected" : `${drives ? "You drive" : "You watch"}${others}${ms && drives ? ` · ${Math.round(ms)} ms` : ""}`;
    state.className = `state ${!online ? "off" : drives ? "on" : ""}`;
    takeOver.hidden = !online || drives;
    root.classList.toggle("watching", !drives);
    for (const each of root.querySelectorAll("main button, main select, aside select, aside input, aside button:not(.branches *)")) each.disabled = !drives;
    slider.disabled = !drives;
  }
  function say(words, isWarning = false) {
    notice.textContent = words; notice.hidden = !words; notice.classList.toggle("warning", isWarning);
  }
  function tell(words) { live.textContent = words; }
  function announce() {
    if (!frame || performance.now() - spoken < 700) return;
    spoken = performance.now();
    tell([`Step ${frame.step}`, hello.reward ? `return ${short(frame.total)}` : null, frame.ended ? "the episode ended" : null].filter(Boolean).join(", "));
  }

  // -- what there is to press ----------------------------------------------------------------------------------------------
  function fillStarts() {
    const names = { saved: "a saved start", data: "a recorded step", reality: "reality, beside the dream", prior: "nothing seen yet" };
    const known = Object.entries(hello.starts).filter(([name, count]) => count && names[name]);
    kind.replaceChildren(...known.map(([name, count]) => make("option", { value: name }, names[name] + (count > 1 ? ` (${count})` : ""))));
    uploadLabel.hidden = !hello.starts.image;
    upload.hidden = !hello.starts.image;
    showNumber();
  }
  function showNumber() {
    const count = hello.starts[kind.value];
    number.hidden = kind.value === "prior" || (count === 1 && kind.value !== "reality");
    number.value = "";
    number.setAttribute("aria-label", kind.value === "reality" ? "Seed of the environment" : "Which one");
    number.placeholder = kind.value === "reality" ? "any seed" : `0–${count - 1}`;
  }
  function fillSaves() {
    const forms = [["gif", "GIF"], ["mp4", "MP4"], ...(hello.data ? [["data", "Data"]] : []), ...(hello.data && hello.starts.reality ? [["real data", "Real data"]] : [])];
    saves.replaceChildren(...forms.map(([form, words]) => button(words, "", form.endsWith("data") ? "As steps to train on" : "As a film", () => { run(false); ask("save", { as: form }); })));
  }
  function fillActions() {
    const { kind, names, buttons, low, high, whole } = hello.controls;
    const signs = { left: "←", right: "→", up: "↑", down: "↓", fire: "Space" };
    const hold = (element, on, off) => {
      element.addEventListener("pointerdown", (event) => { if (event.button === 0) { on(); pressed(); } });
      for (const name of ["pointerup", "pointerleave", "pointercancel"]) element.addEventListener(name, off);
      element.addEventListener("click", (event) => { if (event.detail === 0) { on(); pressed(); off(); } }); // by keyboard
    };
    actions.className = `actions ${kind}`;
    if (kind === "choice") {
      actions.replaceChildren(...names[0].map((name, index) => {
        const keys = buttons[index]?.map((each) => signs[each]).join(" ") || (index < 10 ? String((index + 1) % 10) : "");
        const element = make("button", { type: "button", "aria-pressed": "false" }, name.toLowerCase(), keys ? make("kbd", {}, keys) : null);
        hold(element, () => { hands.direct = index; }, () => { hands.direct = null; });
        return element;
      }));
    } else if (kind === "choices") {
      actions.replaceChildren(...names.map((group, place) => make("label", {}, `Choice ${place + 1}`,
        make("select", { onchange: (event) => { hands.chosen[place] = Number(event.target.value); } }, ...group.map((name, index) => make("option", { value: index }, name))))));
    } else if (kind === "bits") {
      actions.replaceChildren(...names[0].map((name, place) => make("label", { class: "check" },
        make("input", { type: "checkbox", onchange: (event) => { hands.chosen[place] = Number(event.target.checked); } }), name, place < 9 ? make("kbd", {}, String(place + 1)) : null)));
    } else {
      const pairs = [["←", "→"], ["↓", "↑"]];
      actions.replaceChildren(...names[0].map((name, place) => make("label", {},
        make("span", {}, `Action ${name} `, ...(pairs[place] ?? []).map((each) => make("kbd", {}, each))),
        make("input", { type: "range", min: low[place], max: high[place], step: whole ? 1 : (high[place] - low[place]) / 200, value: hands.chosen[place], oninput: (event) => { hands.chosen[place] = Number(event.target.value); showAction(); } }),
        make("output", {}, short(hands.chosen[place])))));
      actions.append(make("button", { type: "button", class: "quiet", onclick: () => { hands.chosen = structuredClone(hello.controls.idle); showAction(); } }, "To the middle"));
    }
  }

  // -- keys and gamepads --------------------------------------------------------------------------------------------------
  function pressed() { if (running) showAction(); else step(); }
  const isField = (element) => /^(INPUT|SELECT|TEXTAREA)$/.test(element?.tagName ?? "") && element.type !== "checkbox";
  const commands = {
    KeyP: () => run(!running), Period: () => { run(false); step(); }, Comma: () => go(frame.step - 1), Backspace: () => go(frame.step - 1),
    Home: () => go(0), End: () => go(frame.steps), KeyB: () => ask("fork"), BracketLeft: () => neighbour(-1), BracketRight: () => neighbour(1),
    KeyL: () => step(true), KeyR: begin, KeyO: () => ask("overlay", { saliency: !overlay.checked }),
  };
  function keyDown(event) {
    if (!hello || !frame || event.ctrlKey || event.metaKey || event.altKey || help.open || isField(event.target)) return;
    if (event.key === "?") { event.preventDefault(); help.showModal(); return; }
    if (event.code === "KeyT" && !drives) { ask("drive"); return; }
    if (!drives) return;
    const isButton = event.target?.tagName === "BUTTON" && (event.code === "Space" || event.code === "Enter");
    if (isButton) return;
    const way = KEYS[event.code];
    if (way && hands.knows(way)) {
      event.preventDefault();
      hands.held.add(way);
      pressed();
    } else if (/^Digit\d$/.test(event.code)) {
      const index = (Number(event.code.slice(5)) + 9) % 10;
      const box = actions.querySelectorAll("input[type=checkbox]")[index];
      if (hello.controls.kind === "choice" && index < hello.controls.names[0].length) { hands.direct = index; pressed(); }
      else if (box) { box.click(); }
    } else if (event.code === "Space") {
      event.preventDefault();
      if (!event.repeat) run(!running);
    } else if (commands[event.code]) {
      event.preventDefault();
      commands[event.code]();
    }
  }
  function keyUp(event) {
    if (!hands) return;
    hands.held.delete(KEYS[event.code]);
    if (/^Digit\d$/.test(event.code)) hands.direct = null;
    showAction();
  }
  let padBefore = {};
  function pollGamepads() {
    const pad = [...(navigator.getGamepads?.() ?? [])].find(Boolean);
    if (pad && hands && drives) {
      const at = (index) => pad.buttons[index]?.pressed ?? false;
      const now = {
        left: at(14) || pad.axes[0] < -0.5, right: at(15) || pad.axes[0] > 0.5, up: at(12) || pad.axes[1] < -0.5,
        down: at(13) || pad.axes[1] > 0.5, fire: at(0), start: at(9),
      };
      if (hello.controls.kind === "numbers") {
        hands.axes = {};
        pad.axes.forEach((share, place) => { if (Math.abs(share) > DEAD) hands.axes[place] = place === 1 ? -share : share; });
      }
      let isNew = false;
      for (const way of ["left", "right", "up", "down", "fire"]) {
        if (now[way] && !padBefore[way]) { hands.held.add(way); isNew = isNew || hands.knows(way); }
        if (!now[way] && padBefore[way]) hands.held.delete(way);
      }
      if (isNew) pressed();
      if (now.start && !padBefore.start) run(!running);
      padBefore = now;
    }
    poller = requestAnimationFrame(pollGamepads);
  }
  let poller = null;
  const page = root.closest(".wmc-page") ? root.ownerDocument : root;
  if (page === root) root.tabIndex = 0;
  const blur = () => { hands?.release(); };
  const connectedPad = () => { if (poller === null) pollGamepads(); };
  const dropped = (event) => { event.preventDefault(); if (drives && hello?.starts.image) sendImage(event.dataTransfer.files[0]); };
  const over = (event) => event.preventDefault();
  page.addEventListener("keydown", keyDown);
  page.addEventListener("keyup", keyUp);
  root.addEventListener("drop", dropped);
  root.addEventListener("dragover", over);
  window.addEventListener("blur", blur);
  window.addEventListener("gamepadconnected", connectedPad);
  showRole();
  return () => {
    page.removeEventListener("keydown", keyDown);
    page.removeEventListener("keyup", keyUp);
    window.removeEventListener("blur", blur);
    window.removeEventListener("gamepadconnected", connectedPad);
    if (poller !== null) cancelAnimationFrame(poller);
    clearTimeout(timer);
  };
}

// -- in a notebook (anywidget) -----------------------------------------------------------------------------------------

export default {
  render({ model, el }) {
    const root = document.createElement("div");
    root.dataset.lmSuppressShortcuts = "true"; // JupyterLab's own keys wait while the dream has the focus
    el.append(root);
    return mount(root, (handlers) => {
      const heard = (content, buffers) => handlers.received(buffers[0]);
      model.on("msg:custom", heard);
      const send = (data) => {
        if (typeof data === "string") model.send({ text: data });
        else model.send({ upload: true }, undefined, [data]);
      };
      queueMicrotask(() => { handlers.opened(); model.send({ open: true }); });
      return { send };
    });
  },
};
