// Draws the layers view. Python decides everything that is said (layers_state.py); this module lays
// it out, keeps focus and scroll, and lights up what the container has just written.

const CSS = `
.lky{--fg:var(--jp-ui-font-color1,var(--vscode-foreground,#1f2328));--soft:var(--jp-ui-font-color2,var(--vscode-descriptionForeground,#656d76));
--line:var(--jp-border-color2,var(--vscode-panel-border,#d0d7de));--back:var(--jp-layout-color1,var(--vscode-editor-background,#fff));
--panel:color-mix(in srgb,var(--jp-layout-color2,var(--vscode-sideBar-background,#f0f2f5)) 55%,var(--back));--focus:var(--jp-brand-color1,var(--vscode-focusBorder,#0072B2));
--mono:var(--jp-code-font-family,ui-monospace,Menlo,monospace);color:var(--fg);font:13px/1.45 var(--jp-ui-font-family,system-ui,sans-serif);padding:4px 2px 8px;container-type:inline-size}
.lky *{box-sizing:border-box}
.lky-head{display:flex;flex-wrap:wrap;align-items:center;gap:4px 16px;margin:2px 0 10px}
.lky-title{font-size:16px;font-weight:650;display:flex;align-items:center;gap:9px;overflow-wrap:anywhere}
.lky-live{width:9px;height:9px;border-radius:50%;background:#009E73;flex:none}
.lky-live.off{background:transparent;border:2px solid #D55E00}
.lky-facts{color:var(--soft);font-size:12.5px;display:flex;gap:4px 14px;flex-wrap:wrap;margin-left:auto}
.lky-cols{display:grid;grid-template-columns:minmax(0,1fr);gap:12px;align-items:start}
@container (min-width:860px){.lky-cols{grid-template-columns:minmax(0,1fr) minmax(0,1.08fr)}}
.lky-col{min-width:0}
.lky h4{font-size:12px;font-weight:600;color:var(--soft);margin:0 0 6px!important}
.lky-layer{all:unset;box-sizing:border-box;display:grid;grid-template-columns:30px minmax(0,1fr) auto;gap:1px 10px;width:100%;padding:8px 12px 7px 9px;cursor:pointer;
border:1px solid var(--line);border-radius:9px;background:var(--panel);margin-bottom:5px}
.lky-layer.own,.lky-layer.init{border-style:dashed;border-color:var(--soft)}
.lky-layer[aria-expanded=true]{border-color:var(--fg);border-bottom-left-radius:0;border-bottom-right-radius:0;margin-bottom:0}
.lky-layer:focus-visible,.lky-tree:focus-visible{outline:2.5px solid var(--focus);outline-offset:1px}
.lky-no{display:inline-grid;place-items:center;border-radius:5px;font-weight:650;background:var(--own);color:var(--ink);min-width:24px;height:24px;font-size:13px;grid-row:span 2;align-self:start}
.lky-no.none{background:transparent;border:1.5px dashed var(--soft);color:var(--soft)}
.lky-code{font:12px/1.5 var(--mono);white-space:nowrap;overflow:hidden;text-overflow:ellipsis}
.lky-code.say{font-family:inherit;font-size:13px}
.lky-size{font-weight:600;font-variant-numeric:tabular-nums}
.lky-sum{grid-column:2/4;display:flex;gap:12px;align-items:center;color:var(--soft);font-size:12px;min-width:0}
.lky-bar{flex:none;width:90px;height:7px;border:1px solid var(--line);border-radius:4px;overflow:hidden}
.lky-bar i{display:block;height:100%;background:var(--own)}
.lky-more{border:1px solid var(--fg);border-top:0;border-radius:0 0 9px 9px;padding:7px 12px 8px;margin:0 0 6px;font-size:12px;background:var(--back)}
.lky-hash{display:grid;grid-template-columns:6em minmax(0,1fr);gap:1px 8px;margin:0 0 6px;font-size:11.5px}
.lky-hash dt{color:var(--soft);font-weight:400;margin:0;padding:0}.lky-hash dd{margin:0;padding:0;font-family:var(--mono);font-size:11px;overflow-wrap:anywhere}
.lky-deeds{list-style:none;margin:0;padding:0}
.lky-deeds li{display:grid;grid-template-columns:1.2em minmax(0,1fr) minmax(0,auto);gap:6px;margin:0;line-height:1.55}
.lky-deeds b,.lky-deeds code{font-family:var(--mono);font-size:11.5px;overflow-wrap:anywhere;background:none;padding:0;color:inherit}
.lky-deeds span{color:var(--soft);text-align:right}
.lky-meta{color:var(--soft);font-size:12px;margin:6px 2px;overflow-wrap:anywhere}
.lky-tree{max-height:430px;overflow:auto;border:1px solid var(--line);border-radius:9px;padding:4px 0;background:var(--back)}
.lky-row{display:grid;grid-template-columns:26px minmax(8em,1fr) 4.4em minmax(0,17em);gap:0 8px;align-items:center;padding:1px 10px 1px 6px;cursor:default;outline:none;border-left:3px solid transparent}
.lky-row.folder{cursor:pointer}
.lky-row .lky-no{min-width:20px;height:18px;font-size:11px;border-radius:4px;grid-row:auto;align-self:center}
.lky-row .n{font:12px/1.6 var(--mono);white-space:nowrap;overflow:hidden;text-overflow:ellipsis}
.lky-row .z,.lky-row .w{color:var(--soft);font-size:11.5px;white-space:nowrap;overflow:hidden;text-overflow:ellipsis}
.lky-row .z{text-align:right;font-variant-numeric:tabular-nums}
.lky-row.gone .n s{color:var(--soft)}
.lky-row.at{background:var(--panel);border-left-color:var(--focus)}
.lky.pick .lky-row:not(.same):not(.lit){opacity:.42}
.lky .t{display:inline-block;width:1.2em;color:var(--soft)}
.lky-say{margin-top:7px;color:var(--soft);font-size:12.5px;min-height:2.9em}
.lky-cmp{border-top:1px solid var(--line);margin-top:12px;padding-top:9px}
.lky-cmp h4{font-size:14px;color:var(--fg);font-weight:650}
.lky-pairs{display:grid;grid-template-columns:minmax(0,1fr) 2em minmax(0,1fr);gap:4px 6px;margin:0 0 8px}
.lky-side{display:grid;grid-template-columns:minmax(0,1fr) auto;gap:0 10px;border:1px solid var(--line);border-left:5px solid var(--own);border-radius:6px;padding:3px 9px;background:var(--panel);font-size:12px}
.lky-side.no{border:1px dashed var(--soft);color:var(--soft);background:none}
.lky-side code{font:11.5px var(--mono);background:none;padding:0;color:inherit;white-space:nowrap;overflow:hidden;text-overflow:ellipsis}
.lky-eq{text-align:center;font-size:16px;font-weight:650;align-self:center}
.lky-warn{border:1px solid #D55E00;border-radius:7px;padding:5px 10px;margin-bottom:10px}
.lky-sr{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
@keyframes lky-lit{0%,55%{box-shadow:inset 0 0 0 2px #D55E00;background:color-mix(in srgb,#D55E00 22%,transparent)}100%{box-shadow:inset 0 0 0 2px transparent}}
.lky-row.lit,.lky-layer.lit{animation:lky-lit 3.5s ease-out}
`;
const BEAT_MS = 10_000;

function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === false || value === null) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "style") for (const [k, v] of Object.entries(value)) node.style.setProperty(k, v);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

const own = (one) => (one.colour ? { "--own": one.colour, "--ink": one.ink } : { "--own": "var(--soft)" });
const short = (digest) => digest.slice(digest.indexOf(":") + 1).slice(0, 12);

function render({ model, el }) {
  const view = Math.random().toString(36).slice(2);
  const id = `lky-${view}`;
  let chosen = 0; // the layer that is unfolded
  let at = ""; // the path that the keyboard is on
  const litUntil = new Map(); // path → when its light goes out
  const root = h("section", { class: "lky", "aria-label": "Layers view" });
  const spoken = h("div", { class: "lky-sr", "aria-live": "polite" });
  el.replaceChildren(h("style", {}, CSS), root, spoken);

  const badge = (one) => h("span", { class: `lky-no${one.colour ? "" : " none"}`, style: own(one), "aria-hidden": "true" }, String(one.number ?? one.layer));

  function unfolded(layer) {
    return h("div", { class: "lky-more", id: `${id}-${layer.number}` },
      layer.hashes.length ? h("dl", { class: "lky-hash" }, layer.hashes.flatMap((one) => [
        h("dt", {}, one.name), h("dd", {}, one.value || "not made yet: it is when the image is pushed or saved", one.note ? ` · ${one.note}` : "")])) : null,
      h("ul", { class: "lky-deeds" }, layer.deeds.map((one) => h("li", {}, h("b", { "aria-label": one.how }, one.mark), h("code", {}, one.path), h("span", {}, one.words))),
        layer.more ? h("li", {}, h("span"), h("span", { style: { "text-align": "left" } }, `and ${layer.more} more`)) : null));
  }

  function layerOf(state, layer, lit) {
    const open = chosen === layer.number;
    return [h("button", {
      class: `lky-layer${layer.kind === "writable" ? " own" : layer.kind === "init" ? " init" : ""}${lit && layer.kind === "writable" ? " lit" : ""}`, type: "button", style: own(layer), "data-key": `layer${layer.number}`,
      "aria-expanded": String(open), "aria-controls": `${id}-${layer.number}`,
      "aria-label": `layer ${layer.number}, ${layer.size}: ${layer.instruction}. ${layer.summary}`,
      onclick: () => { chosen = open ? 0 : layer.number; draw(); },
    }, badge(layer), h("span", { class: `lky-code${layer.kind === "image" ? "" : " say"}`, title: layer.instruction }, layer.instruction), h("span", { class: "lky-size" }, layer.size),
    h("span", { class: "lky-sum" }, h("span", { class: "lky-bar" }, h("i", { style: { width: `${layer.share ? Math.max(2, layer.share * 100) : 0}%` } })), h("span", {}, layer.summary))),
    open ? unfolded(layer) : null];
  }

  function rowOf(row) {
    const folder = row.kind === "folder";
    const name = row.gone ? h("s", {}, row.name) : row.name;
    return h("div", {
      class: `lky-row${folder ? " folder" : ""}${row.gone ? " gone" : ""}${at === row.path ? " at" : ""}${chosen && (row.layer === chosen || row.layers.includes(chosen)) ? " same" : ""}${litUntil.has(row.path) ? " lit" : ""}`,
      role: "treeitem", id: `${id}${row.path}`, "aria-level": String(row.depth + 1), "aria-expanded": folder ? String(row.open) : null, "aria-selected": String(at === row.path), "data-path": row.path, style: own(row),
      "aria-label": `${row.name}, ${row.gone ? "deleted, " : ""}layer ${row.layer}${row.size ? `, ${row.size}` : ""}${row.words ? `, ${row.words}` : ""}`,
      onclick: () => { at = row.path; root.querySelector(".lky-tree").focus({ preventScroll: true }); if (folder) toggle(row); draw(); },
    }, row.kind === "note" ? h("span") : badge(row),
    h("span", { class: "n", style: { "padding-left": `${row.depth * 15}px` }, title: row.path }, h("span", { class: "t" }, folder ? (row.open ? "▾" : "▸") : ""), name),
    h("span", { class: "z" }, row.size), h("span", { class: "w", title: row.words }, row.words));
  }

  const toggle = (row) => model.send({ type: "toggle", path: row.path });

  function move(event) {
    const rows = model.get("state").rows.filter((row) => row.kind !== "note");
    const now = rows.findIndex((row) => row.path === at);
    const row = rows[now];
    let next = null;
    if (event.key === "ArrowDown") next = rows[Math.min(rows.length - 1, now + 1)];
    else if (event.key === "ArrowUp") next = rows[Math.max(0, now - 1)];
    else if (event.key === "Home") next = rows[0];
    else if (event.key === "End") next = rows[rows.length - 1];
    else if (event.key === "ArrowRight" && row?.kind === "folder") { if (row.open) next = rows[now + 1]; else toggle(row); }
    else if (event.key === "ArrowLeft" && row) { if (row.open) toggle(row); else next = rows.slice(0, now).reverse().find((one) => one.depth < row.depth) ?? row; }
    else if ((event.key === "Enter" || event.key === " ") && row?.kind === "folder") toggle(row);
    else return;
    event.preventDefault();
    event.stopPropagation(); // the notebook's own shortcuts
    if (next) at = next.path;
    draw();
    root.querySelector(".lky-row.at")?.scrollIntoView({ block: "nearest" });
  }

  function sentence(state) {
    const row = state.rows.find((one) => one.path === at);
    if (!row) return "Point at a layer to see its hashes and what it does. In the tree, the arrow keys move, open and close; the number says which layer a file comes from.";
    const where = row.layer ? `layer ${row.layer}` : "";
    return `${row.path} · ${row.gone ? "not seen any more" : where}${row.size ? ` · ${row.size}` : ""}${row.words ? ` · ${row.words}` : ""}`;
  }

  function comparison(other) {
    const side = (pair, one) => one ? h("div", { class: "lky-side", style: { "--own": pair.colour } }, h("code", { title: `${one.diff_id} ${one.instruction}` }, `${pair.number}  ${short(one.diff_id)}  ${one.instruction}`), h("span", {}, one.size))
      : h("div", { class: "lky-side no" }, "no such layer");
    return h("div", { class: "lky-cmp" }, h("h4", {}, other.title),
      h("div", { class: "lky-pairs" }, other.pairs.flatMap((pair) => [side(pair, pair.left), h("span", { class: "lky-eq", role: "img", "aria-label": pair.same ? "the same" : "different" }, pair.same ? "=" : "≠"), side(pair, pair.right)])),
      h("p", { class: "lky-meta" }, `Files: ${other.counts}.`),
      h("ul", { class: "lky-deeds" }, other.files.map((one) => h("li", {}, h("b", { "aria-label": one.how }, one.mark), h("code", {}, one.path), h("span", {}, `${one.how}: ${one.words}`))),
        other.more ? h("li", {}, h("span"), h("span", { style: { "text-align": "left" } }, `and ${other.more} more`)) : null));
  }

  function light(state) {
    const now = Date.now();
    for (const path of state.lit) if (!litUntil.has(path)) { litUntil.set(path, now + 3500); setTimeout(() => litUntil.delete(path), 3600); }
    if (state.lit.length) spoken.textContent = `The container wrote ${state.lit.join(", ")}`;
  }

  function draw() {
    const state = model.get("state");
    if (!state.layers) return;
    const active = root.getRootNode().activeElement;
    const focused = active && root.contains(active) ? (active.dataset.key ?? "") : null;
    const before = root.querySelector(".lky-tree");
    const scroll = before?.scrollTop ?? 0;
    root.classList.toggle("pick", Boolean(chosen));
    const tree = h("div", { class: "lky-tree", role: "tree", tabindex: "0", "data-key": "tree", "aria-label": "files and the layer each comes from", "aria-activedescendant": at ? `${id}${at}` : null, onkeydown: move }, state.rows.map(rowOf));
    root.replaceChildren(
      h("div", { class: "lky-head" }, h("div", { class: "lky-title" }, h("span", { class: `lky-live${state.error ? " off" : ""}`, title: state.error ? "not live" : "live" }), state.title),
        h("div", { class: "lky-facts" }, state.facts.map((one) => h("span", {}, one)))),
      ...(state.error ? [h("div", { class: "lky-warn", role: "status" }, `Not live: ${state.error}`)] : []),
      h("div", { class: "lky-cols" },
        h("div", { class: "lky-col" }, h("h4", {}, "Layers, from the top down"), state.layers.flatMap((one) => layerOf(state, one, litUntil.size > 0)).filter(Boolean),
          state.metadata.length ? h("p", { class: "lky-meta" }, `Steps without a layer: ${state.metadata.join(" · ")}`) : null),
        h("div", { class: "lky-col" }, h("h4", {}, "Files, and the layer each comes from"), tree, h("div", { class: "lky-say" }, sentence(state)))),
      ...(state.other ? [comparison(state.other)] : []));
    tree.scrollTop = scroll;
    if (focused) root.querySelector(`[data-key="${focused}"]`)?.focus({ preventScroll: true });
  }

  const changed = () => { light(model.get("state")); draw(); };
  const beat = () => { if (!document.hidden) model.send({ type: "beat", view }); };
  const timer = setInterval(beat, BEAT_MS);
  document.addEventListener("visibilitychange", beat);
  model.on("change:state", changed);
  draw();
  beat();
  return () => {
    clearInterval(timer);
    document.removeEventListener("visibilitychange", beat);
    model.off("change:state", changed);
    model.send({ type: "gone", view });
  };
}

export default { render };
