// Draws the lifecycle view: a map of states (places come from lifecycle_picture.py), containers in
// them, and, for a chosen container, the way it has gone. A change of state lights up its arrow.

const CSS = `
.lkl{--fg:var(--jp-ui-font-color1,var(--vscode-foreground,#1f2328));--soft:var(--jp-ui-font-color2,var(--vscode-descriptionForeground,#656d76));
--line:var(--jp-border-color1,var(--vscode-panel-border,#c4cad1));--back:var(--jp-layout-color1,var(--vscode-editor-background,#fff));--panel:color-mix(in srgb,var(--jp-layout-color2,var(--vscode-sideBar-background,#f0f2f5)) 55%,var(--back));
--focus:var(--jp-brand-color1,var(--vscode-focusBorder,#0072B2));color:var(--fg);
font:13px/1.45 var(--jp-ui-font-family,system-ui,sans-serif);padding:4px 2px 8px}
.lkl *{box-sizing:border-box}
.lkl-head{display:flex;align-items:center;gap:9px;font-size:16px;font-weight:650;margin:2px 0 6px}
.lkl-live{width:9px;height:9px;border-radius:50%;background:#009E73}
.lkl-live.off{background:transparent;border:2px solid #D55E00}
.lkl svg{display:block;width:100%;max-width:980px;height:auto}
.lkl svg text{font-family:inherit;fill:var(--fg)}
.lkl .arrow path{fill:none;stroke:var(--soft);stroke-width:1.4;transition:stroke .2s}
.lkl .arrow text{fill:var(--soft);font-size:11.5px;paint-order:stroke;stroke:var(--jp-layout-color0,var(--back));stroke-width:4px}
.lkl .node rect{fill:var(--back);stroke:var(--line);stroke-width:1.5}
.lkl .node text{text-anchor:middle;font-size:14px;fill:var(--soft)}
.lkl .node.full rect{stroke:none}
.lkl .node.full .n{font-weight:650}
.lkl .node .c{font-size:11.5px}
.lkl.pick .arrow:not(.way){opacity:.25}
.lkl.pick .node:not(.way){opacity:.35}
.lkl .arrow.way path{stroke:var(--fg);stroke-width:2.6}
.lkl .arrow.way text{fill:var(--fg);font-weight:600}
@keyframes lkl-go{0%{stroke:#0072B2;stroke-width:5;stroke-dashoffset:60}70%{stroke:#0072B2;stroke-width:4;stroke-dashoffset:0}100%{stroke:var(--soft);stroke-width:1.4}}
.lkl .arrow.go path{animation:lkl-go 2.4s ease-out;stroke-dasharray:10 5}
@media (prefers-reduced-motion:reduce){.lkl .arrow.go path{stroke-dasharray:none}}
.lkl-list{display:grid;gap:6px;margin-top:6px}
.lkl-row{all:unset;box-sizing:border-box;display:grid;grid-template-columns:minmax(7em,13em) minmax(8em,15em) 1fr;gap:2px 14px;
padding:6px 10px;border-radius:8px;border:1px solid var(--jp-border-color2,var(--vscode-panel-border,#d0d7de));cursor:pointer;align-items:baseline}
.lkl-row:hover{background:var(--panel)}
.lkl-row[aria-pressed=true]{border-color:var(--fg);background:var(--panel)}
.lkl-row:focus-visible{outline:2.5px solid var(--focus);outline-offset:1px}
.lkl-row b{font-weight:650;overflow-wrap:anywhere}
.lkl-row .s{color:var(--soft)}
.lkl-way{font-size:12px;display:flex;flex-wrap:wrap;gap:3px 7px;align-items:center}
.lkl-step{display:inline-flex;align-items:center;gap:5px;white-space:nowrap}
.lkl-step i{width:9px;height:9px;border-radius:3px;display:inline-block}
.lkl-step span{color:var(--soft)}
.lkl-warn{border:1px solid #D55E00;border-radius:7px;padding:5px 10px;margin-bottom:8px}
.lkl-sr{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
`;

const BEAT_MS = 10_000;
const SVG = "http://www.w3.org/2000/svg";

function make(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}
const h = (tag, attributes = {}, ...children) => make(document.createElement(tag), attributes, children);
const s = (tag, attributes = {}, ...children) => make(document.createElementNS(SVG, tag), attributes, children);
const short = (text, room) => (text.length <= room ? text : `${text.slice(0, room - 1)}…`);

function render({ model, el }) {
  const view = Math.random().toString(36).slice(2);
  const marker = `lkl-${view}`;
  const root = h("section", { class: "lkl", "aria-label": "Lifecycle view" });
  const spoken = h("div", { class: "lkl-sr", "aria-live": "polite" });
  let chosen = null;
  let before = new Map();
  el.replaceChildren(h("style", {}, CSS), root);

  function map(state, moved) {
    const way = state.containers.find((one) => one.id === chosen)?.steps ?? [];
    const visited = new Set(way.map((step) => step.state));
    const taken = new Set(way.map((step, i) => `${i ? way[i - 1].state : ""}>${step.state}`));
    const arrows = state.arrows.map((a) => {
      const key = `${a.from}>${a.to}`;
      return s("g", { class: `arrow${taken.has(key) ? " way" : ""}${moved.has(key) ? " go" : ""}` },
        s("path", { d: a.path, "marker-end": `url(#${marker})` }),
        s("text", { x: a.x, y: a.y, "text-anchor": a.anchor }, a.label));
    });
    const nodes = state.nodes.map((n) => {
      const full = n.containers.length > 0;
      const middle = n.x + n.w / 2;
      const more = n.containers.length > 1 ? ` +${n.containers.length - 1}` : "";
      return s("g", { class: `node${full ? " full" : ""}${visited.has(n.id) ? " way" : ""}` },
        s("title", {}, `${n.id}: ${n.meaning}${full ? ` — ${n.containers.join(", ")}` : ""}`),
        s("rect", { x: n.x, y: n.y, width: n.w, height: n.h, rx: 10, style: full ? `fill:${n.colour}` : null }),
        s("text", { class: "n", x: middle, y: n.y + (full ? 23 : 33), style: full ? `fill:${n.ink}` : null }, n.id),
        full ? s("text", { class: "c", x: middle, y: n.y + 42, style: `fill:${n.ink}` }, short(n.containers[0], 18 - more.length) + more) : null);
    });
    return s("svg", { viewBox: `0 0 ${state.width} ${state.height}`, role: "img", "aria-label": "States of containers and the changes that are allowed" },
      s("defs", {}, s("marker", { id: marker, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 8, markerHeight: 8, markerUnits: "userSpaceOnUse", orient: "auto-start-reverse" },
        s("path", { d: "M0,0.6 L7.4,4 L0,7.4 z", fill: "context-stroke" }))),
      arrows, s("circle", { cx: state.start.x, cy: state.start.y, r: 6, style: "fill:var(--fg)" }), nodes);
  }

  function list(state) {
    const colours = Object.fromEntries(state.nodes.map((n) => [n.id, n.colour]));
    if (!state.containers.length) return h("p", { style: "color:var(--soft);margin:4px 0" }, "No container yet.");
    return h("div", { class: "lkl-list" }, state.containers.map((one) =>
      h("button", { class: "lkl-row", "data-id": one.id, "aria-pressed": String(one.id === chosen),
        onclick: () => { chosen = chosen === one.id ? null : one.id; draw(); } },
        h("b", {}, one.name), h("span", { class: "s" }, one.status || one.state),
        h("span", { class: "lkl-way" }, one.steps.slice(-8).map((step) =>
          h("span", { class: "lkl-step", title: `${step.time} ${step.action}` },
            h("i", { style: `background:${colours[step.state] ?? "#8a8a8a"}` }), `${step.state}`,
            h("span", {}, step.stayed || `since ${step.time}`)))))));
  }

  function draw() {
    const state = model.get("state");
    if (!state.nodes) return;
    const moved = new Set();
    const news = [];
    const now = new Map(state.containers.map((one) => [one.id, one.state]));
    for (const one of state.containers) {
      const old = before.get(one.id);
      if (before.size && old === undefined) moved.add(`>${one.state}`);
      if (old !== undefined && old !== one.state) {
        moved.add(`${old}>${one.state}`);
        news.push(`${one.name}: ${old} to ${one.state}`);
      }
    }
    before = now;
    if (news.length) spoken.textContent = news.join(". ");
    if (!now.has(chosen)) chosen = null;
    const active = root.getRootNode().activeElement;
    const focused = active && root.contains(active) ? active.dataset.id : null;
    root.classList.toggle("pick", chosen !== null);
    root.replaceChildren(
      h("div", { class: "lkl-head" }, h("span", { class: `lkl-live${state.error ? " off" : ""}`, title: state.error ? "not live" : "live" }), "Life of a container"),
      ...(state.error ? [h("div", { class: "lkl-warn", role: "status" }, `Not live: ${state.error}`)] : []),
      map(state, moved), list(state), spoken);
    if (focused) root.querySelector(`[data-id="${focused}"]`)?.focus();
  }

  const beat = () => { if (!document.hidden) model.send({ type: "beat", view }); };
  const timer = setInterval(beat, BEAT_MS);
  document.addEventListener("visibilitychange", beat);
  model.on("change:state", draw);
  draw();
  beat();
  return () => {
    clearInterval(timer);
    document.removeEventListener("visibilitychange", beat);
    model.off("change:state", draw);
    model.send({ type: "gone", view });
  };
}

export default { render };
