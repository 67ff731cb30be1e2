// Draws the events view: a lane per object with a dot per event, and the same story as a list. A dot
// or a line that is chosen says the whole event; new ones appear as they happen.

const CSS = `
.lke{--fg:var(--jp-ui-font-color1,var(--vscode-foreground,#1f2328));--soft:var(--jp-ui-font-color2,var(--vscode-descriptionForeground,#656d76));
--line:var(--jp-border-color2,var(--vscode-panel-border,#d0d7de));--back:var(--jp-layout-color1,var(--vscode-editor-background,#fff));
--focus:var(--jp-brand-color1,var(--vscode-focusBorder,#0072B2));color:var(--fg);
font:13px/1.45 var(--jp-ui-font-family,system-ui,sans-serif);padding:4px 2px 8px}
.lke-head{display:flex;flex-wrap:wrap;align-items:center;gap:4px 14px;margin:2px 0 6px}
.lke-head b{font-size:16px;font-weight:650}
.lke-live{width:9px;height:9px;border-radius:50%;background:#009E73;margin-right:-6px}
.lke-live.off{background:transparent;border:2px solid #D55E00}
.lke-key{display:inline-flex;align-items:center;gap:5px;color:var(--soft);font-size:12px}
.lke-key i{width:10px;height:10px;border-radius:50%}
.lke svg{display:block;width:100%;max-width:980px;height:auto}
.lke svg text{font-family:inherit;fill:var(--fg)}
.lke svg .soft{fill:var(--soft)}
.lke svg line{stroke:var(--line)}
.lke svg g[role=button]{cursor:pointer;outline:none}
.lke svg g[role=button]:focus-visible circle,.lke svg g.chosen circle{stroke:var(--fg);stroke-width:2.5}
.lke-say{min-height:1.6em;margin:4px 0}
.lke-say code,.lke table{font-family:var(--jp-code-font-family,ui-monospace,Menlo,monospace);font-size:12px}
.lke summary{cursor:pointer;color:var(--soft)}
.lke summary:focus-visible{outline:2.5px solid var(--focus)}
.lke-rows{max-height:260px;overflow:auto}
.lke table{border-collapse:collapse}
.lke td,.lke th{text-align:left;padding:1px 14px 1px 0;white-space:nowrap}
.lke th{color:var(--soft);font-weight:600}
.lke-warn{border:1px solid #D55E00;border-radius:7px;padding:5px 10px;margin-bottom:8px}
`;

const BEAT_MS = 10_000;
const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, LEFT, RIGHT, LANE, TOP] = [960, 190, 30, 40, 22];

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
const clock = (seconds) => new Date(seconds * 1000).toTimeString().slice(0, 8);
const keyOf = (row) => `${row.at} ${row.lane} ${row.action}`;
const whole = (row) => `${row.time}  ${row.kind} ${row.name}: ${row.action}${row.details ? ` (${row.details})` : ""}`;

function render({ model, el }) {
  const view = Math.random().toString(36).slice(2);
  const root = h("section", { class: "lke", "aria-label": "Events view" });
  el.replaceChildren(h("style", {}, CSS), root);
  let chosen = null;
  let isOpen = false;

  function dot(row, x, y) {
    const choose = () => {
      chosen = keyOf(row);
      draw();
      root.querySelector("g.chosen")?.focus();
    };
    const ink = row.colour === "#0072B2" ? "#fff" : "#111";
    return s(
      "g",
      {
        role: "button",
        tabindex: "0",
        class: keyOf(row) === chosen ? "chosen" : "",
        "aria-label": whole(row),
        onclick: choose,
        onkeydown: (event) => {
          if (event.key === "Enter" || event.key === " ") {
            event.preventDefault();
            choose();
          }
        },
      },
      s("title", {}, whole(row)),
      s("circle", { cx: x, cy: y, r: 8, fill: row.colour }),
      s("text", { x, y: y + 3.5, "text-anchor": "middle", "font-size": 10.5, "font-weight": 650, style: `fill:${ink}` }, row.action.slice(0, 1)),
    );
  }

  function lanes(state) {
    const width = WIDTH - LEFT - RIGHT;
    const span = Math.max(1, state.until - state.since);
    const height = TOP + state.lanes.length * LANE + 8;
    const parts = state.lanes.map((lane, number) => {
      const y = TOP + number * LANE;
      let last = -Infinity;
      const dots = state.rows
        .filter((row) => row.lane === lane.key)
        .map((row) => {
          last = Math.max(LEFT + ((row.at - state.since) / span) * width, last + 17);
          return dot(row, Math.min(last, WIDTH - 10), y);
        });
      return [
        s("text", { x: 0, y: y + 2, "font-size": 13, "font-weight": 600 }, short(lane.name, 24)),
        s("text", { x: 0, y: y + 16, "font-size": 11, class: "soft" }, lane.kind),
        s("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y, y2: y }),
        ...dots,
      ];
    });
    const marks = [0, 0.5, 1].map((share) =>
      s("text", { x: LEFT + share * width, y: height - 2, "font-size": 11, class: "soft", "text-anchor": ["start", "middle", "end"][share * 2] }, clock(state.since + share * span)),
    );
    return s("svg", { viewBox: `0 0 ${WIDTH} ${height}`, role: "group", "aria-label": "Events by object and time" }, ...parts, ...marks);
  }

  function list(state) {
    const rows = [...state.rows].reverse().map((row) => h("tr", {}, ...[row.time, row.kind, row.name, row.action, row.details].map((cell) => h("td", {}, cell))));
    const head = h("tr", {}, ...["TIME", "TYPE", "OBJECT", "ACTION", "DETAILS"].map((title) => h("th", { scope: "col" }, title)));
    const details = h("details", { open: isOpen ? "" : null }, h("summary", {}, `All ${state.rows.length} events as a list`), h("div", { class: "lke-rows" }, h("table", {}, h("thead", {}, head), h("tbody", {}, ...rows))));
    details.addEventListener("toggle", () => (isOpen = details.open));
    return details;
  }

  function draw() {
    const state = model.get("state");
    const picked = state.rows.find((row) => keyOf(row) === chosen) ?? state.rows.at(-1);
    root.replaceChildren(
      h(
        "div",
        { class: "lke-head" },
        h("span", { class: `lke-live ${state.error ? "off" : ""}`, "aria-hidden": "true" }),
        h("b", {}, "Events"),
        ...state.legend.map((entry) => h("span", { class: "lke-key" }, h("i", { style: `background:${entry.colour}` }), entry.name)),
      ),
      state.error ? h("div", { class: "lke-warn", role: "alert" }, state.error) : "",
      state.rows.length ? lanes(state) : h("p", {}, "Nothing has happened yet: run a container and watch."),
      h("div", { class: "lke-say", role: "status" }, picked ? h("code", {}, whole(picked)) : ""),
      state.rows.length ? list(state) : "",
    );
  }

  const beat = () => {
    if (!document.hidden) model.send({ type: "beat", view });
  };
  model.on("change:state", draw);
  draw();
  beat();
  const timer = setInterval(beat, BEAT_MS);
  return () => {
    clearInterval(timer);
    model.off("change:state", draw);
    model.send({ type: "gone", view });
  };
}

export default { render };
