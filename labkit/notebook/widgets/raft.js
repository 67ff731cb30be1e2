// Draws a Raft trace at any of its steps: servers on a ring, their logs, messages in flight, a Lamport
// diagram. It decides nothing: every state, message and sentence is in the trace that Python hands on.

const CSS = `
.lkr{--fg:var(--jp-ui-font-color1,var(--vscode-foreground,#1f2328));--soft:var(--jp-ui-font-color2,var(--vscode-descriptionForeground,#656d76));
--line:var(--jp-border-color2,var(--vscode-panel-border,#d0d7de));--back:var(--jp-layout-color1,var(--vscode-editor-background,#fff));
--panel:color-mix(in srgb,var(--jp-layout-color2,var(--vscode-sideBar-background,#f0f2f5)) 55%,var(--back));--focus:var(--jp-brand-color1,var(--vscode-focusBorder,#0072B2));
color:var(--fg);font:13px/1.45 var(--jp-ui-font-family,system-ui,sans-serif);padding:4px 2px 8px;container-type:inline-size}
.lkr *{box-sizing:border-box}
.lkr-head,.lkr-bar,.lkr-act{display:flex;flex-wrap:wrap;align-items:center;gap:6px 8px}
.lkr-head{margin:2px 0 6px;gap:6px 14px}
.lkr-title{font-size:16px;font-weight:650;margin-right:auto;display:flex;align-items:center;gap:9px}
.lkr-live{width:9px;height:9px;border-radius:50%;background:#009E73;flex:none}
.lkr-live.off{background:transparent;border:2px solid var(--soft)}
.lkr label{color:var(--soft);font-size:12px}
.lkr select,.lkr button,.lkr input[type=text]{font:inherit;font-size:12px;color:var(--fg);background:var(--back);border:1px solid var(--soft);border-radius:6px;padding:2px 8px;min-height:26px}
.lkr button{cursor:pointer}.lkr button.main{background:var(--fg);color:var(--back);min-width:5.6em}
.lkr button:disabled,.lkr input:disabled{opacity:.45;cursor:not-allowed}
.lkr :is(button,select,input):focus-visible,.lkr svg:focus-visible{outline:2px solid var(--focus);outline-offset:2px}
.lkr-note{font-weight:600;min-height:1.5em;margin:2px 0 2px}
.lkr-say{color:var(--soft);min-height:3em;font-size:12.5px}
.lkr-main{display:grid;grid-template-columns:minmax(300px,430px) minmax(0,1fr);gap:4px 18px;align-items:start}
@container (max-width:680px){.lkr-main{grid-template-columns:1fr}}
.lkr svg{display:block;width:100%;height:auto}
.lkr .lkr-logs{max-width:540px}
.lkr svg text{fill:var(--fg);font-family:inherit}
.lkr svg .s{fill:var(--soft)}.lkr svg .b{font-weight:650}.lkr svg .h{paint-order:stroke;stroke:var(--back);stroke-width:4px;stroke-linejoin:round}
.lkr-node{cursor:pointer;outline:none}
.lkr-node:focus-visible .ring{stroke:var(--focus);stroke-width:3;stroke-dasharray:none;opacity:1}
.lkr-node[aria-pressed=true] .ring{stroke:var(--fg);stroke-width:2;opacity:1}
.lkr-node .ring{fill:none;opacity:0;stroke:var(--fg);stroke-dasharray:3 3}
.lkr-off{cursor:pointer}
.lkr-bar{margin:6px 0 2px}.lkr-bar input[type=range]{flex:1 1 180px;min-width:120px;accent-color:var(--fg)}
.lkr-when{font-variant-numeric:tabular-nums;color:var(--soft);font-size:12px;min-width:13em;text-align:right}
.lkr-act{border-top:1px solid var(--line);padding-top:7px;margin-top:7px}
.lkr-act .why{color:var(--soft);font-size:12.5px;flex-basis:100%}
.lkr-done{font-size:12.5px;flex-basis:100%;min-height:1.4em}
.lkr-lam{cursor:crosshair;touch-action:none}
.lkr-warn{border:1px solid #D55E00;border-radius:7px;padding:5px 10px;margin-bottom:8px}
.lkr-legend{display:flex;flex-wrap:wrap;gap:2px 14px;color:var(--soft);font-size:11.5px;margin:2px 0}
.lkr-legend span{display:inline-flex;align-items:center;gap:5px}.lkr-legend svg{width:16px;height:16px;flex:none}
.lkr-sr{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
`;

const BEAT_MS = 10_000, CELLS = 14, RING = 400, EVENTS_MAX = 30_000;
const SPEEDS = [[0.02, "1/50"], [0.05, "1/20"], [0.1, "1/10"], [0.25, "1/4"], [0.5, "1/2"], [1, "1"], [2, "2"]];
const LIGHT_TEXT = new Set(["#0072B2"]);
const esc = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
const n1 = (x) => x.toFixed(1);

function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === false || value === null) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

// The last position in a rising list whose value is at most `wanted`; -1 when there is none.
function upTo(list, wanted, of = (x) => x) {
  let low = 0, high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (of(list[middle]) <= wanted) low = middle + 1; else high = middle;
  }
  return low - 1;
}

// Folded states (shared where unchanged), messages and cuts: stepping back is a look-up.
class Trace {
  constructor(piece) {
    this.meta = piece.meta;
    this.first = piece.events.length ? piece.events[0].step : piece.next + 1;
    this.events = [];
    this.steps = new Map(); // node → positions at which it changed
    this.states = new Map(); // node → its states there
    this.flights = [];
    this.open = new Map(); // "sender:id" → flight that has not ended
    this.cuts = [[-1, new Set()]];
    for (const [node, state] of Object.entries(piece.base)) {
      this.steps.set(Number(node), [-1]);
      this.states.set(Number(node), [state]);
    }
    this.add(piece);
  }

  add(piece) {
    for (const event of piece.events) {
      if (event.step !== this.first + this.events.length) {
        if (event.step < this.first + this.events.length) continue;
        return false; // something is missing between: the whole must be asked for again
      }
      this.events.push(event);
      this.take(event, this.events.length - 1);
    }
    return true;
  }

  take(event, at) {
    const { node, detail } = event;
    if (node && Object.keys(event.state).length) {
      if (!this.states.has(node)) { this.states.set(node, []); this.steps.set(node, []); }
      const states = this.states.get(node);
      states.push({ ...states[states.length - 1], ...event.state });
      this.steps.get(node).push(at);
    }
    if (event.kind === "send") {
      const flight = { from: node, to: detail.to, message: detail.message, start: at, sent: event.t_ns, end: Infinity, ended: Infinity, lost: false };
      this.flights.push(flight);
      this.open.set(`${node}:${detail.id}`, flight);
    } else if (event.kind === "deliver" || (event.kind === "lost" && "id" in detail && !detail.message)) {
      const key = event.kind === "deliver" ? `${detail.from}:${detail.id}` : `${node}:${detail.id}`;
      const flight = this.open.get(key);
      if (flight) { flight.end = at; flight.ended = event.t_ns; flight.lost = event.kind === "lost"; this.open.delete(key); }
    } else if (event.kind === "lost") {
      this.flights.push({ from: node, to: detail.to, message: detail.message, start: at, sent: event.t_ns, end: at, ended: event.t_ns, lost: true });
    } else if (event.kind === "heal") {
      this.cuts.push([at, new Set()]);
    } else if (event.kind === "cut") {
      const cut = new Set(this.cuts[this.cuts.length - 1][1]);
      for (const a of detail.from) for (const b of detail.to) { cut.add(`${a}:${b}`); if (detail.both) cut.add(`${b}:${a}`); }
      this.cuts.push([at, cut]);
    }
  }

  get nodes() { return [...this.states.keys()].sort((a, b) => a - b); }
  get tick() { return this.meta.tick_ns ?? 1e8; }
  unanswered(f, now) { return f.ended === Infinity && now - f.sent > 2 * this.tick; }
  get last() { return this.events.length - 1; }
  time(at) { return at >= 0 && this.events.length ? this.events[Math.min(at, this.last)].t_ns : 0; }
  name(node) { return this.meta.names?.[node] ?? `S${node}`; }
  state(node, at) {
    const position = upTo(this.steps.get(node) ?? [], at);
    return position < 0 ? null : this.states.get(node)[position];
  }
  cutAt(at) { return this.cuts[upTo(this.cuts, at, (c) => c[0])][1]; }
  atTime(t) { return upTo(this.events, t, (e) => e.t_ns); }
  caption(at) {
    for (let i = Math.min(at, this.last); i >= 0; i--) if (["note", "chaos"].includes(this.events[i].kind)) return this.events[i].detail.text;
    return "";
  }
}

const kindOf = (m) => m[0] === "Append" ? (m[5].length ? "append" : "heartbeat") : m[0] === "Vote" || m[0] === "TimeoutNow" ? "ask"
  : m[0] === "VoteReply" ? (m[3] ? "yes" : "no") : m[0] === "AppendReply" ? (m[3] ? "ack" : "no") : "ack";

function mark(kind, x, y, colour) {
  const style = `fill="${colour}" stroke="var(--fg)"`;
  if (kind === "ask") return `<rect x="${n1(x - 6)}" y="${n1(y - 6)}" width="12" height="12" ${style}/>`;
  if (kind === "yes") return `<path d="M${n1(x)} ${n1(y - 8)}l8 8l-8 8l-8 -8z" ${style}/>`;
  if (kind === "append") return `<circle cx="${n1(x)}" cy="${n1(y)}" r="7" ${style}/>`;
  if (kind === "heartbeat") return `<circle cx="${n1(x)}" cy="${n1(y)}" r="4.5" fill="var(--back)" stroke="${colour}" stroke-width="2.5"/>`;
  const cross = `M${n1(x - 6)} ${n1(y - 6)}l12 12m0 -12l-12 12`;
  if (kind === "no") return `<path d="${cross}" stroke="var(--fg)" stroke-width="5.5"/><path d="${cross}" stroke="${colour}" stroke-width="3"/>`;
  return `<path d="M${n1(x)} ${n1(y - 6)}l6 10h-12z" ${style}/>`;
}

const LEGEND = [["ask", "asks for a vote"], ["yes", "gives it"], ["no", "refuses"], ["append", "brings entries"], ["heartbeat", "heartbeat"], ["ack", "acknowledges"]];

function render({ model, el }) {
  const view = Math.random().toString(36).slice(2);
  let trace = null, at = 0, t = 0, playing = false, follow = false, speed = 0.25, ticks = false;
  let frame = 0, clock = 0, drawnAt = -1, lamportDrawn = 0;
  let picked = new Set();
  const nodeGroups = new Map();

  const root = h("section", { class: "lkr", "aria-label": "Raft view" });
  el.replaceChildren(h("style", {}, CSS), root);
  const state = () => model.get("state");
  const colour = (term) => term > 0 ? state().colours[(term - 1) % state().colours.length] : "var(--soft)";
  const ink = (term) => term > 0 ? (LIGHT_TEXT.has(colour(term)) ? "#fff" : "#111") : "var(--back)";
  const isLive = () => state().mode === "live";

  // -- fixed parts ------------------------------------------------------------------------------
  const dot = h("span", { class: "lkr-live" });
  const title = h("span", {});
  const warn = h("div", { class: "lkr-warn", role: "status", hidden: true });
  const chooser = h("select", { "aria-label": "Scenario", onchange: () => load() });
  const sizes = h("select", { "aria-label": "Servers", onchange: () => load() });
  const again = h("button", { type: "button", title: "the same story under other random numbers", onclick: () => load((trace?.meta.seed ?? 1) + 1) }, "Other run");
  const note = h("div", { class: "lkr-note" });
  const say = h("div", { class: "lkr-say" });
  const spoken = h("div", { class: "lkr-sr", "aria-live": "polite" });
  const ring = svg(`0 0 ${RING} ${RING}`, "Servers");
  ring.innerHTML = '<g class="cuts"></g><g class="fly"></g><g class="nodes"></g>';
  const logs = svg("0 0 460 240", "Logs");
  logs.setAttribute("class", "lkr-logs");
  const lamport = svg("0 0 900 200", "Lamport diagram: click to go there");
  lamport.setAttribute("class", "lkr-lam");
  const playButton = h("button", { type: "button", class: "main", title: "Space", onclick: () => play(!playing) }, "▶ Play");
  const edge = h("button", { type: "button", title: "L: go on with what happens now", onclick: () => toEdge() }, "● Now");
  const range = h("input", { type: "range", min: "0", max: "0", value: "0", "aria-label": "Position in the run",
    oninput: () => { const wanted = Number(range.value); play(false); seek(wanted); } });
  const when = h("span", { class: "lkr-when" });
  const pace = h("select", { "aria-label": "Speed", onchange: () => { speed = Number(pace.value); } },
    SPEEDS.map(([value, text]) => h("option", { value: String(value) }, `${text} ×`)));
  const tickBox = h("input", { type: "checkbox", onchange: () => { ticks = tickBox.checked; } });
  const button = (text, hint, run) => h("button", { type: "button", title: hint, onclick: run }, text);
  const bar = h("div", { class: "lkr-bar", role: "group", "aria-label": "Playback" },
    button("|◀", "Home: to the beginning", () => { play(false); seek(0); }), button("◀ Step", "← one step back", () => step(-1)), playButton,
    button("Step ▶", "→ one step on", () => step(1)), button("Next election", "E (shift: the one before)", (e) => election(e.shiftKey ? -1 : 1)), edge,
    h("label", {}, "speed ", pace), h("label", { title: "whether a step also stops at clock ticks and disk writes" }, tickBox, " ticks"), range, when);

  const who = h("b", {});
  const wish = h("input", { type: "text", value: "hello", "aria-label": "What the request writes", size: "12", onkeydown: (e) => { e.stopPropagation(); if (e.key === "Enter") propose(); } });
  const acts = [["kill", "Stop"], ["restart", "Restart"], ["pause", "Stand still"], ["resume", "Go on"], ["partition", "Cut off"]].map(([action, text]) =>
    h("button", { type: "button", "data-act": action, onclick: () => act(action) }, text));
  const heal = h("button", { type: "button", "data-act": "heal", onclick: () => send("heal", []) }, "Heal the network");
  const submit = h("button", { type: "button", "data-act": "propose", onclick: () => propose() }, "Submit a request");
  const why = h("span", { class: "why" });
  const done = h("span", { class: "lkr-done", role: "status" });
  const actions = h("div", { class: "lkr-act", role: "group", "aria-label": "Break and ask" }, who, acts, heal, wish, submit, why, done);
  const legend = h("div", { class: "lkr-legend", "aria-hidden": "true" });
  root.append(
    h("div", { class: "lkr-head" }, h("div", { class: "lkr-title" }, dot, title), h("label", {}, "scenario ", chooser), h("label", {}, "servers ", sizes), again),
    warn, note, h("div", { class: "lkr-main" }, ring, h("div", {}, logs, legend)), say, bar, lamport, actions, spoken);
  root.addEventListener("keydown", keys);

  function svg(box, label) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    node.setAttribute("viewBox", box);
    node.setAttribute("role", "group");
    node.setAttribute("aria-label", label);
    return node;
  }

  // -- where we stand ---------------------------------------------------------------------------
  function seek(position, time) {
    if (!trace) return;
    at = Math.max(0, Math.min(position, trace.last));
    t = time ?? trace.time(at);
    draw(true);
  }

  function step(direction) {
    if (!trace) return;
    play(false);
    let next = at + direction;
    while (next > 0 && next < trace.last && !ticks && !trace.events[next].stop) next += direction;
    seek(next);
    speak();
  }

  function election(direction) {
    if (!trace) return;
    play(false);
    for (let i = at + direction; i >= 0 && i <= trace.last; i += direction) {
      if (["candidate", "pre_candidate"].includes(trace.events[i].state.role)) { seek(i); speak(); return; }
    }
    say.textContent = spoken.textContent = direction > 0 ? "No election after this moment." : "No election before this moment.";
  }

  function toEdge() {
    follow = isLive();
    if (follow) { speed = 1; pace.value = "1"; }
    seek(trace ? trace.last : 0);
    play(follow);
    follow = isLive();
  }

  function play(on) {
    if (on && !isLive() && trace && at >= trace.last) seek(0);
    playing = on;
    if (!on) follow = false;
    playButton.textContent = on ? "❚❚ Pause" : "▶ Play";
    playButton.setAttribute("aria-pressed", String(on));
    cancelAnimationFrame(frame);
    if (on) { clock = performance.now(); frame = requestAnimationFrame(run); } else draw(true);
  }

  function run(now) {
    const passed = Math.min(now - clock, 200);
    clock = now;
    if (trace) {
      const end = trace.time(trace.last);
      t += passed * 1e6 * speed;
      if (follow && (t < end - 2.5e9 || t > end)) t = t > end ? Math.min(t, end + 1e9) : end - 1e9;
      at = Math.max(at, trace.atTime(t));
      if (!isLive() && t >= end + 4e8 * speed) { play(false); return; }
      draw(false);
    }
    frame = requestAnimationFrame(run);
  }

  function speak() {
    spoken.textContent = trace.events[at]?.say ?? "";
  }

  function keys(event) {
    if (event.target.matches("input,select") && !["Escape"].includes(event.key)) return;
    const run = { " ": () => play(!playing), ArrowRight: () => step(1), ArrowLeft: () => step(-1), Home: () => { play(false); seek(0); },
      End: () => toEdge(), e: () => election(1), E: () => election(-1), l: () => toEdge() }[event.key];
    const onNode = event.target.closest?.(".lkr-node");
    if (onNode && ["Enter", " "].includes(event.key)) pick(Number(onNode.dataset.node), event.shiftKey || event.key === " ");
    else if (onNode && isLive() && ["s", "r"].includes(event.key)) send(event.key === "s" ? "kill" : "restart", [trace.name(Number(onNode.dataset.node))]);
    else if (event.target.matches("button") && [" ", "Enter"].includes(event.key)) return;
    else if (run) run();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  // -- asking -----------------------------------------------------------------------------------
  function load(seed) {
    done.textContent = "";
    model.send({ type: "load", view, name: chooser.value, servers: Number(sizes.value) || 0, seed: seed ?? 0 });
  }
  function send(action, nodes) { done.textContent = "…"; model.send({ type: "act", view, action, nodes }); }
  function act(action) { send(action, [...picked].sort((a, b) => a - b).map((node) => trace.name(node))); }
  function propose() { done.textContent = "A client asks…"; model.send({ type: "propose", view, value: wish.value }); }
  function pick(node, also) {
    if (also) { if (picked.has(node)) picked.delete(node); else picked.add(node); } else picked = new Set(picked.has(node) && picked.size === 1 ? [] : [node]);
    chosen();
    draw(true);
  }
  function chosen() {
    const live = isLive();
    const names = trace ? [...picked].sort((a, b) => a - b).map((node) => trace.name(node)) : [];
    who.textContent = names.length ? `${names.join(", ")}:` : live ? "Choose a server:" : "";
    for (const one of acts) one.disabled = !live || !names.length;
    for (const one of [heal, wish, submit]) one.disabled = !live;
    why.textContent = live ? (names.length ? "" : "Click a server of the ring (shift: several; keys: Tab and Enter), or the switch at its shoulder.") : state().why;
  }

  // -- drawing ----------------------------------------------------------------------------------
  function places() {
    const nodes = trace.nodes, radius = RING / 2 - 62, found = new Map();
    nodes.forEach((node, number) => {
      const angle = 2 * Math.PI * number / nodes.length - Math.PI / 2;
      found.set(node, [RING / 2 + radius * Math.cos(angle), RING / 2 - 6 + radius * Math.sin(angle)]);
    });
    return found;
  }

  const role = (s) => !s.up ? "down" : s.paused ? "stands still" : s.role.replace("_", "-");
  const needed = (s) => Math.floor(s.config[0].length / 2) + 1;

  function server(node, s, [x, y], radius) {
    const leads = s.up && s.role === "leader", short = trace.name(node).length < 4;
    const sign = !s.up ? "✕" : s.paused ? "❚❚" : leads ? "★" : s.role.endsWith("candidate") ? "?" : "";
    const text = (dy, size, words, soft, cls) => `<text x="${n1(x)}" y="${n1(y + dy)}" font-size="${size}" text-anchor="middle" class="${cls ?? ""}"${leads ? ` style="fill:${ink(s.term)}"` : soft ? ' style="fill:var(--soft)"' : ""}>${esc(words)}</text>`;
    const below = s.up && s.role.endsWith("candidate") ? `${s.votes.length} of ${needed(s)} votes` : s.vote ? `→ ${trace.name(s.vote).replace("manager-", "m")}` : "no vote";
    let markup = `<circle class="ring" cx="${n1(x)}" cy="${n1(y)}" r="${radius + 12}"/>`
      + `<circle cx="${n1(x)}" cy="${n1(y)}" r="${radius}" fill="${leads ? colour(s.term) : "var(--panel)"}" stroke="${s.up ? colour(s.term) : "var(--soft)"}" stroke-width="${s.up && s.role !== "follower" ? 4 : 2}"${s.up ? "" : ' stroke-dasharray="4 4"'}/>`;
    if (s.up && !leads && s.timeout) {
      const share = Math.min(0.9999, s.elapsed / s.timeout), angle = 2 * Math.PI * share - Math.PI / 2, r = radius + 6;
      markup += `<circle cx="${n1(x)}" cy="${n1(y)}" r="${r}" fill="none" stroke="var(--line)" stroke-width="3"/>`;
      if (share > 0) markup += `<path d="M${n1(x)} ${n1(y - r)}A${r} ${r} 0 ${share > 0.5 ? 1 : 0} 1 ${n1(x + r * Math.cos(angle))} ${n1(y + r * Math.sin(angle))}" fill="none" stroke="var(--fg)" stroke-width="3"/>`;
    }
    markup += text(-9, 13, `${sign} ${short ? trace.name(node) : node}`.trim(), false, "b") + text(7, 11, `term ${s.term}`) + text(20, 9.5, below, true);
    markup += `<text x="${n1(x)}" y="${n1(y + radius + 21)}" font-size="11.5" text-anchor="middle" class="h ${leads ? "b" : ""}">${esc(short ? role(s) : `${trace.name(node)} · ${role(s)}`)}</text>`;
    if (isLive()) {
      markup += `<g class="lkr-off" data-off="${s.up ? "kill" : "restart"}"><title>${s.up ? "stop" : "restart"} ${esc(trace.name(node))}</title><circle cx="${n1(x + radius * 0.82)}" cy="${n1(y - radius * 0.82)}" r="10" fill="var(--back)" stroke="var(--fg)"/>`
        + `<path d="M${n1(x + radius * 0.82)} ${n1(y - radius * 0.82 - 6)}v5m3 -3.6a4.6 4.6 0 1 1 -6 0" fill="none" stroke="var(--fg)" stroke-width="1.6" stroke-linecap="round"/></g>`;
    }
    return markup;
  }

  function drawServers(where, radius) {
    const layer = ring.querySelector(".nodes");
    for (const [node, place] of where) {
      let group = nodeGroups.get(node);
      if (!group) {
        group = document.createElementNS("http://www.w3.org/2000/svg", "g");
        group.setAttribute("class", "lkr-node");
        group.setAttribute("tabindex", "0");
        group.setAttribute("role", "button");
        group.dataset.node = node;
        group.addEventListener("click", (event) => {
          const off = event.target.closest(".lkr-off");
          if (off) send(off.dataset.off, [trace.name(node)]); else pick(node, event.shiftKey || event.ctrlKey || event.metaKey);
        });
        nodeGroups.set(node, group);
        layer.append(group);
      }
      const s = trace.state(node, at);
      group.setAttribute("aria-pressed", String(picked.has(node)));
      if (!s) { group.innerHTML = ""; continue; }
      const said = `${trace.name(node)}: ${role(s)}, term ${s.term}, ${s.vote ? `voted for ${trace.name(s.vote)}` : "no vote"}, committed ${s.commit}, log of ${s.first + s.log.length - 1}`;
      group.setAttribute("aria-label", said);
      const markup = server(node, s, place, radius);
      if (group.dataset.markup !== markup) { group.innerHTML = markup; group.dataset.markup = markup; }
    }
  }

  // While the run plays a message is drawn for a moment that can be seen, however fast it was. One
  // that never ended (its receiver is down) is drawn for two ticks.
  function drawFlights(where) {
    const parts = [], seen = playing ? (isLive() ? Math.max(0.12, Math.min(0.3, trace.tick / 1e9)) : 0.3) * 1e9 * speed : 0;
    const from = upTo(trace.flights, at, (f) => f.start);
    for (let i = from; i >= 0 && i > from - 400; i--) {
      const f = trace.flights[i], a = where.get(f.from), b = where.get(f.to);
      if (!a || !b) continue;
      const length = Math.max((trace.unanswered(f, t) ? 2 * trace.tick : f.ended - f.sent), seen);
      const flies = playing || length === 2 * trace.tick ? t < f.sent + length : f.end > at;
      const struck = f.lost && f.end === f.start;
      if (!flies && !(struck && f.start === at)) continue;
      let share = length === Infinity ? 1 - 1 / (1 + (t - f.sent) / 2e8) : (t - f.sent) / length;
      if (!(share >= 0)) share = 0;
      if (struck) share = Math.min(share, 0.5) || 0.3;
      const room = (where.size <= 5 ? 50 : 44) / Math.hypot(b[0] - a[0], b[1] - a[1]);
      share = room + (1 - 2 * room) * Math.min(1, share);
      const x = a[0] + share * (b[0] - a[0]), y = a[1] + share * (b[1] - a[1]);
      parts.push(`<path d="M${n1(a[0])} ${n1(a[1])}L${n1(x)} ${n1(y)}" stroke="var(--line)"${f.lost ? ' stroke-dasharray="4 3"' : ""}/>`,
        f.lost && (struck || share > 0.8) ? mark("no", x, y, "var(--soft)") : mark(kindOf(f.message), x, y, colour(f.message[1])));
    }
    const layer = ring.querySelector(".fly");
    layer.innerHTML = parts.join("");
  }

  function drawCuts(where) {
    const parts = [];
    for (const pair of trace.cutAt(at)) {
      const [one, other] = pair.split(":").map(Number), a = where.get(one), b = where.get(other);
      if (a && b && (one < other || !trace.cutAt(at).has(`${other}:${one}`))) parts.push(`<path d="M${n1(a[0])} ${n1(a[1])}L${n1(b[0])} ${n1(b[1])}" stroke="#D55E00" stroke-width="1.5" stroke-dasharray="2 6" opacity=".7"/>`);
    }
    ring.querySelector(".cuts").innerHTML = parts.join("");
  }

  function drawLogs() {
    const rows = trace.nodes.map((node) => [node, trace.state(node, at)]).filter(([, s]) => s);
    const leader = rows.map(([, s]) => s).filter((s) => s.up && s.role === "leader" && !s.paused).sort((a, b) => b.term - a.term)[0];
    const last = Math.max(0, ...rows.map(([, s]) => s.first + s.log.length - 1)), start = Math.max(1, last - CELLS + 1);
    const left = rows.some(([node]) => trace.name(node).length > 3) ? 84 : 32, cell = 26, row = rows.length <= 6 ? 42 : 37;
    const parts = ['<text x="0" y="12" font-size="11" class="s">log: the number in a cell is the term of its entry; filled: committed</text>'];
    for (let index = start; index <= Math.max(last, start + 3); index++) parts.push(`<text x="${left + (index - start) * cell + cell / 2}" y="29" font-size="10" text-anchor="middle" class="s">${index}</text>`);
    rows.forEach(([node, s], number) => {
      const top = 35 + number * row;
      parts.push(`<text x="0" y="${top + 16}" font-size="12" class="b">${esc(trace.name(node))}</text>`);
      s.log.forEach((term, offset) => {
        const index = s.first + offset, x = left + (index - start) * cell + 1;
        if (index < start) return;
        const held = index <= s.commit;
        parts.push(`<rect x="${x}" y="${top}" width="${cell - 2}" height="22" rx="4" fill="${held ? colour(term) : "none"}" stroke="${colour(term)}" stroke-width="2"${held ? "" : ' stroke-dasharray="3 2"'}/>`,
          `<text x="${x + cell / 2 - 1}" y="${top + 15.5}" font-size="11.5" text-anchor="middle"${held ? ` style="fill:${ink(term)}"` : ""}>${term}</text>`);
      });
      const peer = leader?.peers[node];
      parts.push(`<text x="${left}" y="${top + 33}" font-size="10" class="s">committed ${s.commit}, applied ${s.applied}${peer ? ` · the leader knows ${peer[1]}, sends ${peer[0]} next` : ""}</text>`);
      if (peer && peer[1] >= start) parts.push(`<path d="M${left + (peer[1] - start + 1) * cell - 11} ${top - 2}l5 6l5 -6z" fill="var(--fg)" stroke="var(--back)"><title>the leader knows that the logs agree up to here</title></path>`);
    });
    logs.setAttribute("viewBox", `0 0 460 ${35 + rows.length * row}`);
    logs.innerHTML = parts.join("");
  }

  const LEFT = 84, RIGHT = 888;
  let span = [0, 1];
  function drawLamport() {
    const nodes = trace.nodes, lane = nodes.length <= 5 ? 28 : 21, width = 1.25e9, begin = Math.max(trace.time(0), t - 0.72 * width), end = begin + width;
    span = [begin, end];
    const x = (ns) => LEFT + (RIGHT - LEFT) * (ns - begin) / width, y = new Map(nodes.map((node, i) => [node, 30 + i * lane]));
    const now = Math.min(t, end), parts = [`<text x="0" y="12" font-size="12" class="b">Who said what to whom (Lamport’s diagram)</text><text x="${RIGHT}" y="12" font-size="11" text-anchor="end" class="s">${(begin / 1e9).toFixed(2)} s to ${(end / 1e9).toFixed(2)} s</text>`];
    const horizon = Math.min(end, isLive() && follow ? t : trace.time(trace.last));
    for (const node of nodes) {
      parts.push(`<text x="0" y="${y.get(node) + 4}" font-size="11.5">${esc(trace.name(node))}</text>`);
      const steps = trace.steps.get(node), states = trace.states.get(node);
      for (let i = Math.max(0, upTo(steps, trace.atTime(begin))); i < steps.length; i++) {
        const s = states[i], from = Math.max(begin, trace.time(steps[i])), to = Math.min(horizon, i + 1 < steps.length ? trace.time(steps[i + 1]) : horizon);
        if (from >= horizon) break;
        if (!s.up || to <= from) continue;
        const w = s.role === "leader" ? 7 : s.role === "follower" ? 1.5 : 4;
        parts.push(`<path d="M${n1(x(from))} ${y.get(node)}H${n1(x(to))}" stroke="${colour(s.term)}" stroke-width="${w}"${s.paused ? ' stroke-dasharray="3 4"' : ""}/>`);
      }
    }
    for (let i = upTo(trace.flights, trace.atTime(end), (f) => f.start); i >= 0; i--) {
      const f = trace.flights[i];
      if (f.sent < begin - 2.5e9) break;
      if (!y.has(f.from) || !y.has(f.to)) continue;
      const unheard = trace.unanswered(f, now);
      const ended = unheard ? f.sent + Math.min(trace.tick, 2.5e7) : f.ended === Infinity ? Math.max(f.sent + 4e7, Math.min(now, end)) : f.lost && f.ended === f.sent ? f.sent + 2.5e7 : f.ended;
      if (ended < begin || f.sent > horizon) continue;
      const lost = f.lost || unheard, stop = lost ? 0.5 : 1, kind = kindOf(f.message), quiet = kind === "heartbeat" || kind === "ack";
      let x1 = x(f.sent), y1 = y.get(f.from), x2 = x1 + stop * (x(ended) - x1), y2 = y1 + stop * (y.get(f.to) - y1);
      if (x1 < LEFT) { y1 += (y2 - y1) * (LEFT - x1) / (x2 - x1 || 1); x1 = LEFT; }
      if (x2 < LEFT) continue;
      if (x2 > RIGHT) { y2 = y1 + (y2 - y1) * (RIGHT - x1) / (x2 - x1); x2 = RIGHT; }
      parts.push(`<g opacity="${f.sent > now ? 0.22 : quiet ? 0.5 : 1}"><path d="M${n1(x1)} ${n1(y1)}L${n1(x2)} ${n1(y2)}" stroke="${colour(f.message[1])}" stroke-width="${quiet ? 1 : 1.8}"${lost ? ' stroke-dasharray="4 3"' : ""}/>`
        + (lost ? `<path d="M${n1(x2 - 3.5)} ${n1(y2 - 3.5)}l7 7m0 -7l-7 7" stroke="var(--fg)"/>` : `<circle cx="${n1(x2)}" cy="${n1(y2)}" r="2.5" fill="${colour(f.message[1])}"/>`) + "</g>");
    }
    const bottom = 30 + nodes.length * lane - 14;
    parts.push(`<path d="M${n1(x(now))} 18V${bottom}" stroke="var(--fg)" stroke-width="1.5"/>`);
    const e = trace.events[at];
    if (!playing && e?.node) parts.push(`<circle cx="${n1(x(e.t_ns))}" cy="${y.get(e.node)}" r="5.5" fill="none" stroke="var(--fg)" stroke-width="2"/>`);
    lamport.setAttribute("viewBox", `0 0 900 ${bottom + 6}`);
    lamport.innerHTML = parts.join("");
  }

  lamport.addEventListener("click", (event) => {
    if (!trace) return;
    const box = lamport.getBoundingClientRect(), x = (event.clientX - box.left) / box.width * 900;
    const time = span[0] + (x - LEFT) / (RIGHT - LEFT) * (span[1] - span[0]);
    play(false);
    seek(trace.atTime(time), Math.max(trace.time(0), Math.min(time, trace.time(trace.last))));
    speak();
  });

  function draw(whole) {
    if (!trace || !trace.events.length) return;
    const where = places(), radius = where.size <= 5 ? 36 : where.size <= 7 ? 31 : 27, now = performance.now();
    drawCuts(where);
    drawFlights(where);
    if (whole || at !== drawnAt) {
      drawServers(where, radius);
      drawLogs();
      note.textContent = trace.caption(at);
      let told = at; // while it plays, the last thing that is worth a sentence
      while (playing && told > at - 60 && told > 0 && !trace.events[told].stop) told -= 1;
      const event = trace.events[told];
      if (!playing || event.stop) say.textContent = event.kind === "note" || event.kind === "chaos" ? "" : event.say;
      range.max = String(trace.last);
      range.value = String(at);
      range.setAttribute("aria-valuetext", `step ${at} of ${trace.last}`);
      drawnAt = at;
    }
    if (whole || now - lamportDrawn > 80) { drawLamport(); lamportDrawn = now; }
    when.textContent = `step ${at} of ${trace.last} · ${(t / 1e9).toFixed(3)} s`;
  }

  function options(select, list, value) {
    select.replaceChildren(...list.map(([key, text]) => h("option", { value: String(key), selected: String(key) === String(value) }, text)));
  }

  function begin(piece) {
    const same = trace && trace.meta.swarm && trace.meta.swarm === piece.meta.swarm;
    if (!same) {
      nodeGroups.clear();
      ring.querySelector(".nodes").replaceChildren();
      picked = new Set();
    }
    trace = new Trace(piece);
    chosen();
  }

  function shown() {
    const s = state(), live = isLive();
    dot.classList.toggle("off", !live || Boolean(s.error));
    title.textContent = live ? "Raft: the swarm’s managers, live" : `Raft: ${s.meta.title}`;
    warn.hidden = !s.error;
    warn.textContent = s.error ? `Not live: ${s.error}` : "";
    options(chooser, [["", "the running swarm"], ...s.scenarios.map((one) => [one.name, one.title])], s.name);
    const sized = s.scenarios.find((one) => one.name === s.name)?.sizes ?? [s.servers];
    options(sizes, sized.map((n) => [n, n]), s.servers);
    sizes.disabled = again.disabled = live;
    edge.hidden = !live;
    legend.replaceChildren(...LEGEND.map(([kind, text]) => {
      const item = h("span", {});
      item.innerHTML = `<svg viewBox="-10 -10 20 20">${mark(kind, 0, 0, s.colours[0])}</svg>${esc(text)}`;
      return item;
    }));
    chosen();
  }

  function fresh() {
    play(false);
    shown();
    if (isLive()) { trace = null; model.send({ type: "pull", view }); return; }
    begin(model.get("piece"));
    speed = 0.25;
    pace.value = "0.25";
    seek(state().at || 0);
  }

  let mode = "";
  function changed() {
    const s = state(), now = `${s.mode}/${s.name}/${s.servers}/${s.meta.seed ?? s.meta.swarm}`;
    if (now === mode) { shown(); return; }
    mode = now;
    fresh();
  }

  function heard(content) {
    if (content.type === "said") { done.textContent = content.text; return; }
    if (content.type !== "piece" || (content.view && content.view !== view) || !isLive()) return;
    if (content.fresh) { begin(content); toEdge(); return; }
    if (!trace) return;
    const before = trace.nodes.length;
    if (!trace.add(content)) { model.send({ type: "pull", view }); return; }
    if (trace.nodes.length !== before) draw(true);
    range.max = String(trace.last);
    if (follow && trace.events.length > EVENTS_MAX) model.send({ type: "pull", view }); // forget the oldest
  }

  const beat = () => { if (!document.hidden) model.send({ type: "beat", view }); };
  const timer = setInterval(beat, BEAT_MS);
  document.addEventListener("visibilitychange", beat);
  model.on("change:state", changed);
  model.on("msg:custom", heard);
  pace.value = "0.25";
  changed();
  beat();
  return () => {
    clearInterval(timer);
    cancelAnimationFrame(frame);
    document.removeEventListener("visibilitychange", beat);
    model.off("change:state", changed);
    model.off("msg:custom", heard);
    model.send({ type: "gone", view });
  };
}

export default { render };
