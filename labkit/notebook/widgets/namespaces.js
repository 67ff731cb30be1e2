// Draws the namespaces view. Python decides everything that is said (namespaces_picture.py);
// this module lays it out, keeps focus, and turns a tile over when its namespace changes.

const CSS = `
.lkn{--fg:var(--jp-ui-font-color1,var(--vscode-foreground,#1f2328));--soft:var(--jp-ui-font-color2,var(--vscode-descriptionForeground,#656d76));
--line:var(--jp-border-color2,var(--vscode-panel-border,#d0d7de));--back:var(--jp-layout-color1,var(--vscode-editor-background,#fff));
--panel:color-mix(in srgb,var(--jp-layout-color2,var(--vscode-sideBar-background,#f0f2f5)) 55%,var(--back));--focus:var(--jp-brand-color1,var(--vscode-focusBorder,#0072B2));
--mono:var(--jp-code-font-family,ui-monospace,Menlo,monospace);
color:var(--fg);font:13px/1.45 var(--jp-ui-font-family,system-ui,sans-serif);
padding:4px 2px 8px;container-type:inline-size}
.lkn *{box-sizing:border-box}
.lkn-head{display:flex;flex-wrap:wrap;align-items:center;gap:6px 18px;margin:2px 0 10px}
.lkn-title{font-size:16px;font-weight:650;display:flex;align-items:center;gap:9px}
.lkn-live{width:9px;height:9px;border-radius:50%;background:#009E73;flex:none}
.lkn-live.off{background:transparent;border:2px solid #D55E00}
.lkn-legend{display:flex;gap:14px;color:var(--soft);font-size:12px;align-items:center}
.lkn-legend i{display:inline-block;width:20px;height:13px;border-radius:4px;vertical-align:-2px;margin-right:6px}
.lkn-legend .a{background:linear-gradient(90deg,#0072B2 0 34%,#E69F00 34% 67%,#009E73 67%)}
.lkn-legend .b{border:1.5px dashed var(--soft)}
.lkn-by{margin-left:auto;display:flex;align-items:center;gap:8px;color:var(--soft);font-size:12px}
.lkn-seg{display:inline-flex;border:1px solid var(--line);border-radius:7px;overflow:hidden}
.lkn-seg button{all:unset;padding:3px 9px;font-size:12px;cursor:pointer;color:var(--fg);
border-left:1px solid var(--line)}
.lkn-seg button:first-child{border-left:0}
.lkn-seg button[aria-checked=true]{background:var(--fg);color:var(--back)}
.lkn-seg button:focus-visible{outline:2px solid var(--focus);outline-offset:-3px}
.lkn-card{border:1px solid var(--line);border-radius:10px;background:var(--back);padding:12px 14px 10px;
position:relative;min-width:0;container-type:inline-size}
.lkn-card.host{background:var(--panel);margin-bottom:12px}
.lkn-card.mine{padding-left:19px}
.lkn-card.mine::before{content:"";position:absolute;left:7px;top:12px;bottom:12px;width:4px;
border-radius:2px;background:var(--own)}
.lkn-grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,390px),1fr));gap:12px;align-items:start}
.lkn-name{display:flex;align-items:baseline;gap:8px;margin-bottom:9px;min-width:0}
.lkn-name b{font-size:14.5px;font-weight:650;overflow-wrap:anywhere}
.lkn-name span{color:var(--soft);font-size:12px}
.lkn-name .r{margin-left:auto;text-align:right;white-space:nowrap;overflow:hidden;text-overflow:ellipsis}
.lkn-tiles{display:grid;grid-template-columns:repeat(4,minmax(0,1fr));gap:7px;margin-bottom:11px;perspective:700px}
.host .lkn-tiles{grid-template-columns:repeat(7,minmax(0,1fr))}
@container (min-width:720px){.mine .lkn-tiles{grid-template-columns:repeat(7,minmax(0,1fr)) minmax(5.5em,.7fr)}}
@container (max-width:620px){.host .lkn-tiles{grid-template-columns:repeat(4,minmax(0,1fr))}}
@container (max-width:360px){.lkn-tiles,.host .lkn-tiles{grid-template-columns:repeat(2,minmax(0,1fr))}}
.lkn-tile{all:unset;box-sizing:border-box;display:block;border-radius:7px;padding:5px 8px 5px;cursor:pointer;
border:1.5px dashed var(--soft);min-width:0;line-height:1.3;transition:opacity .15s}
.lkn-tile.own{border:1.5px solid var(--own);background:var(--own);color:var(--ink)}
.lkn-tile b{display:block;font-size:13px;font-weight:650}
.lkn-tile em{display:block;font-style:normal;font-size:11.5px;white-space:nowrap;overflow:hidden;text-overflow:ellipsis}
.lkn-tile .ino{font-family:var(--mono);font-size:10.5px;font-variant-numeric:tabular-nums;opacity:.85;display:block;
white-space:nowrap;overflow:hidden}
.lkn-tile:focus-visible{outline:2.5px solid var(--focus);outline-offset:2px}
.lkn.pick .lkn-tile{opacity:.32}
.lkn.pick .lkn-tile.same{opacity:1;box-shadow:0 0 0 2px var(--back),0 0 0 4px var(--fg)}
.lkn-sum{align-self:center;padding-left:6px;line-height:1.2}
.lkn-sum b{font-size:18px;font-weight:650;display:block}
.lkn-sum span{font-size:11.5px;color:var(--soft)}
.lkn-scroll{overflow-x:auto}
.lkn table{border-collapse:collapse;width:100%;margin:0;font-size:12px;table-layout:fixed;border:0}
.lkn th,.lkn td{text-align:left!important;padding:2px 8px 2px 0!important;border:0!important;
white-space:nowrap;overflow:hidden;text-overflow:ellipsis;vertical-align:baseline;background:transparent}
.lkn tr{background:transparent!important}
.lkn th{font-weight:500;font-size:11px;color:var(--soft)}
.lkn td{font-family:var(--mono);font-variant-numeric:tabular-nums}
.lkn col.p{width:6.6em}.lkn col.i{width:4.4em}.lkn col.u{width:5.6em}.lkn col.o{width:8em}
.lkn td .t{display:inline-block}
.lkn td .d{color:var(--soft)}
.lkn td.in b{font-weight:700}
.lkn-hold{border-top:1px solid var(--line);margin-top:8px;padding-top:7px;font-size:12px}
.lkn-hold summary{cursor:pointer;color:var(--soft);font-size:12px}
.lkn-hold summary:focus-visible,.lkn-hold input:focus-visible,.lkn-hold button:focus-visible{outline:2px solid var(--focus);outline-offset:2px}
.lkn-gauges{display:grid;grid-template-columns:repeat(3,minmax(0,1fr));gap:4px 14px;margin:6px 0 9px}
.lkn-gauge span{display:block;font-size:11px;color:var(--soft)}
.lkn-bar{height:7px;border:1px solid var(--soft);border-radius:4px;margin-top:3px;overflow:hidden}
.lkn-bar i{display:block;height:100%;background:var(--own);transition:width .4s}
.lkn-bar.none{border-style:dashed}
.lkn-caps{display:grid;grid-template-columns:repeat(auto-fill,minmax(128px,1fr));gap:3px;margin:5px 0 8px;padding:0}
.lkn-caps li{list-style:none;font:10.5px/1.5 var(--mono);padding:0 5px;border:1px solid var(--line);border-radius:4px;
color:var(--soft);white-space:nowrap;overflow:hidden;text-overflow:ellipsis}
.lkn-caps li.held{background:var(--own);border-color:var(--own);color:var(--ink)}
.lkn-caps li.gone{text-decoration:line-through;border-style:dashed;border-color:var(--soft)}
.lkn-ask{display:flex;gap:7px;align-items:center;margin-top:6px;flex-wrap:wrap}
.lkn-ask input{font:12px var(--mono);width:11em;margin-left:6px;padding:2px 6px;border:1px solid var(--soft);border-radius:5px;background:var(--back);color:var(--fg)}
.lkn-ask button{font:inherit;font-size:12px;padding:2px 10px;border:1px solid var(--soft);border-radius:5px;background:transparent;color:var(--fg);cursor:pointer}
.lkn-verdict{margin-top:5px;min-height:1.4em}
.lkn-verdict b.yes{color:#00694d}.lkn-verdict b.no{color:#a63c00}
body[data-jp-theme-light="false"] .lkn-verdict b.yes{color:#5fd3ae}body[data-jp-theme-light="false"] .lkn-verdict b.no{color:#ff9f66}
.lkn-chip{font:10.5px var(--jp-ui-font-family,system-ui,sans-serif);border:1px solid var(--jp-border-color1,var(--vscode-panel-border,#b6bcc4));color:var(--soft);
border-radius:8px;padding:0 6px;margin-left:8px;white-space:nowrap}
.lkn-say{margin-top:10px;color:var(--soft);font-size:12.5px;min-height:2.9em;border-top:1px solid var(--line);padding-top:7px}
.lkn-say b{color:var(--fg)}
.lkn-warn{border:1px solid #D55E00;border-radius:7px;padding:5px 10px;margin-bottom:10px}
.lkn-sr{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
@keyframes lkn-turn{0%{transform:rotateX(0)}50%{transform:rotateX(90deg)}50.1%{transform:rotateX(-90deg)}100%{transform:rotateX(0)}}
@keyframes lkn-ring{0%,60%{box-shadow:0 0 0 2px var(--back),0 0 0 4.5px var(--fg)}100%{box-shadow:0 0 0 2px transparent,0 0 0 4.5px transparent}}
.lkn-tile.turn{animation:lkn-turn .55s ease-in-out}
.lkn-tile.ring{animation:lkn-ring 3.2s ease-out}
@media (prefers-reduced-motion:reduce){.lkn-tile.turn{animation:none}}
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

// Who is in the namespace of this kind and inode: one phrase per owner.
function membersOf(state, kind, inode) {
  const found = [];
  const hosts = state.host.processes.filter((p) => p.namespaces[kind] === inode).length;
  if (state.host.namespaces[kind] === inode || hosts) found.push("the host");
  for (const group of state.groups) {
    const count = group.processes.filter((p) => p.namespaces[kind] === inode).length;
    if (count) found.push(`${group.kind} ${group.name} (${count} process${count === 1 ? "" : "es"})`);
  }
  return found;
}

function sentence(state, kind, inode) {
  const members = membersOf(state, kind, inode);
  const only = members.length === 1 ? " and nobody else" : "";
  return [
    h("b", {}, `${kind} ${inode}`), ` · ${state.kinds[kind]}. `,
    h("span", {}, `In it: ${members.join(", ") || "nobody now"}${only}.`),
  ];
}

function render({ model, el }) {
  const view = Math.random().toString(36).slice(2);
  let by = "owner";
  let pinned = null; // "kind:inode" chosen with a click or the keyboard
  let before = new Map();
  const open = new Set(); // groups whose confinement is unfolded
  const typed = new Map(); // what stands in their question
  const root = h("section", { class: "lkn", "aria-label": "Namespaces view" });
  const say = h("div", { class: "lkn-say" });
  const spoken = h("div", { class: "lkn-sr", "aria-live": "polite" });
  el.replaceChildren(h("style", {}, CSS), root);

  function pick(key) {
    const state = model.get("state");
    root.classList.toggle("pick", Boolean(key));
    for (const tile of root.querySelectorAll(".lkn-tile")) tile.classList.toggle("same", tile.dataset.ns === key);
    if (key) {
      const [kind, inode] = key.split(":");
      say.replaceChildren(...sentence(state, kind, Number(inode)));
    } else {
      say.replaceChildren("Point at a tile, or move to it with the Tab key: every tile of the same namespace lights up, and who is in it is said here.");
    }
  }

  function tile(state, key, t) {
    const own = t.state !== "host";
    const ns = `${t.kind}:${t.inode}`;
    const changed = before.has(key) && before.get(key) !== t.inode;
    const node = h("button", {
      class: `lkn-tile${own ? " own" : ""}${changed ? " turn" : ""}`,
      "data-ns": ns, "data-key": key, "aria-pressed": String(pinned === ns),
      "aria-label": `${t.kind}, ${state.kinds[t.kind]}: ${t.word || "the host’s"}, inode ${t.inode}`,
      style: own ? { "--own": t.colour, "--ink": t.ink } : {},
      onmouseenter: () => pick(ns), onmouseleave: () => pick(pinned),
      onfocus: () => pick(ns), onblur: () => pick(pinned),
      onclick: () => { pinned = pinned === ns ? null : ns; pick(pinned); },
    }, h("b", {}, t.kind), t.word ? h("em", {}, t.word) : null, h("span", { class: "ino" }, String(t.inode)));
    if (changed) {
      node.addEventListener("animationend", () => { node.classList.remove("turn"); node.classList.add("ring"); }, { once: true });
      if (matchMedia("(prefers-reduced-motion:reduce)").matches) node.classList.add("ring");
    }
    return node;
  }

  function table(processes, { inside, owners }) {
    const row = (p) => h("tr", {},
      h("td", {}, String(p.pid)),
      inside ? h("td", { class: "in" }, p.inside === null ? h("span", { class: "d" }, "–") : h("b", {}, String(p.inside))) : null,
      h("td", {}, p.user),
      owners ? h("td", {}, p.owner) : null,
      h("td", { title: p.command },
        (!owners && p.depth) ? h("span", { class: "d t", style: { "padding-left": `${(p.depth - 1) * 14}px` } }, "└\u00a0") : null, p.command,
        !owners && p.differs.length ? h("span", { class: "lkn-chip", title: inside ? "this process is in other namespaces of these kinds than the tiles above show" : "this process is outside the lab’s host, on the machine itself" },
          inside ? `≠ ${p.differs.join(", ")}` : `machine’s ${p.differs.join(", ")}`) : null));
    return h("div", { class: "lkn-scroll" }, h("table", {},
      h("colgroup", {}, h("col", { class: "p" }), inside ? h("col", { class: "i" }) : null, h("col", { class: "u" }), owners ? h("col", { class: "o" }) : null, h("col")),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, inside ? "PID outside" : "PID"),
        inside ? h("th", { scope: "col" }, "inside") : null, h("th", { scope: "col" }, "user"),
        owners ? h("th", { scope: "col" }, "owner") : null, h("th", { scope: "col" }, "command"))),
      h("tbody", {}, processes.map(row))));
  }

  function gauge(g) {
    return h("div", { class: "lkn-gauge" }, h("span", {}, g.name), g.text,
      h("div", { class: `lkn-bar${g.share === null ? " none" : ""}`, role: "presentation" },
        g.share === null ? null : h("i", { style: { width: `${Math.max(1, g.share * 100)}%` } })),
      g.note ? h("span", {}, g.note) : null);
  }

  function confinement(group) {
    const c = group.confinement;
    if (!c) return null;
    const ask = () => {
      const call = (typed.get(group.id) || "").trim();
      if (call) model.send({ type: "verdict", group: group.id, call });
    };
    const answer = model.get("verdict") || {};
    const mine = answer.group === group.id;
    const question = group.kind !== "container" ? null : [
      h("div", { class: "lkn-ask" },
        h("label", {}, "system call ", h("input", { type: "text", spellcheck: "false", placeholder: "mount", value: typed.get(group.id) || "",
          "data-key": `${group.id}/ask`, oninput: (e) => typed.set(group.id, e.target.value),
          onkeydown: (e) => { e.stopPropagation(); if (e.key === "Enter") ask(); } })),
        h("button", { type: "button", "data-key": `${group.id}/go`, onclick: ask }, "What happens?")),
      h("div", { class: "lkn-verdict", role: "status" }, !mine ? null : [
        answer.allowed === null ? null : h("b", { class: answer.allowed ? "yes" : "no" }, answer.allowed ? "✔ " : "✘ "), answer.text])];
    return h("details", { class: "lkn-hold", open: open.has(group.id), style: { "--ink": group.ink },
      ontoggle: (e) => { if (e.target.open) open.add(group.id); else open.delete(group.id); } },
      h("summary", { "data-key": `${group.id}/hold` }, `What holds it: ${c.held} of ${c.capabilities.length} capabilities · ${c.filtered ? "system calls filtered" : "no filter"}`),
      c.gauges.length ? h("div", { class: "lkn-gauges" }, c.gauges.map(gauge)) : h("p", {}, "No control group: nothing is counted or limited."),
      h("ul", { class: "lkn-caps", "aria-label": "capabilities" }, c.capabilities.map((one) =>
        h("li", { class: one.state === "held" ? "held" : one.state === "given up" ? "gone" : "", title: `CAP_${one.name}: ${one.state}` }, one.name))),
      h("div", {}, `${c.seccomp}; ${c.privileges}.`), h("div", {}, `${c.identity}; ${c.closed}.`), question);
  }

  function byOwner(state) {
    const tiles = Object.entries(state.host.namespaces).map(([kind, inode]) =>
      tile(state, `host/${kind}`, { kind, inode, state: "host", word: "" }));
    const host = h("div", { class: "lkn-card host", role: "group", "aria-label": `host ${state.host.name}` },
      h("div", { class: "lkn-name" }, h("b", {}, `host ${state.host.name}`),
        h("span", { class: "r" }, state.others ? `and ${state.others} other processes of this machine` : "")),
      h("div", { class: "lkn-tiles" }, tiles), table(state.host.processes, { inside: false }));
    const cards = state.groups.map((group) =>
      h("div", { class: "lkn-card mine", role: "group", "aria-label": `${group.kind} ${group.name}`, style: { "--own": group.colour } },
        h("div", { class: "lkn-name" }, h("b", {}, group.name), h("span", {}, group.kind),
          h("span", { class: "r", title: group.image }, group.image)),
        h("div", { class: "lkn-tiles" }, group.tiles.map((t) => tile(state, `${group.id}/${t.kind}`, t)),
          h("div", { class: "lkn-sum" }, h("b", {}, `${group.own} of ${group.tiles.length}`), h("span", {}, "its own"))),
        table(group.processes, { inside: true }), confinement(group)));
    const empty = h("p", {}, "No container and no box now: everything is in the host’s namespaces.");
    return [host, cards.length ? h("div", { class: "lkn-grid" }, cards) : empty];
  }

  function byKind(state, kind) {
    const inodes = new Map();
    const add = (p, owner) => {
      const inode = p.namespaces[kind];
      if (!inodes.has(inode)) inodes.set(inode, []);
      inodes.get(inode).push({ ...p, owner });
    };
    for (const p of state.host.processes) add(p, "host");
    for (const group of state.groups) for (const p of group.processes) add(p, group.name);
    const hostFirst = [...inodes].sort(([a], [b]) => Number(b === state.host.namespaces[kind]) - Number(a === state.host.namespaces[kind]));
    return h("div", { class: "lkn-grid" }, hostFirst.map(([inode, processes]) => {
      const t = state.groups.flatMap((g) => g.tiles).find((x) => x.kind === kind && x.inode === inode && x.state !== "host");
      const isHost = state.host.namespaces[kind] === inode;
      const owner = state.groups.find((g) => g.tiles.some((x) => x.kind === kind && x.inode === inode && x.state !== "host"));
      const whose = isHost ? "the host’s" : owner ? `${owner.name}’s` : "the machine’s";
      return h("div", { class: `lkn-card ${t ? "mine" : "host"}`, role: "group", style: t ? { "--own": t.colour } : {} },
        h("div", { class: "lkn-name" }, h("b", {}, whose), h("span", {}, `${kind} ${inode}`),
          h("span", { class: "r" }, `${processes.length} process${processes.length === 1 ? "" : "es"}`)),
        table(processes, { inside: processes.some((p) => p.inside !== null), owners: true }));
    }));
  }

  function chooser(state) {
    const choices = ["owner", ...Object.keys(state.kinds)];
    const move = (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      by = choices[(choices.indexOf(by) + step + choices.length) % choices.length];
      draw();
      root.querySelector(`[data-by="${by}"]`).focus();
    };
    return h("div", { class: "lkn-by" }, h("span", {}, "Group by"),
      h("div", { class: "lkn-seg", role: "radiogroup", "aria-label": "Group processes by", onkeydown: move },
        choices.map((c) => h("button", { role: "radio", "data-by": c, tabindex: c === by ? "0" : "-1", "aria-checked": String(c === by),
          onclick: () => { by = c; pinned = null; draw(); } }, c))));
  }

  function announce(state) {
    const now = new Map();
    const changes = [];
    for (const group of state.groups) for (const t of group.tiles) {
      const key = `${group.id}/${t.kind}`;
      now.set(key, t.inode);
      if (before.has(key) && before.get(key) !== t.inode) changes.push(`${group.kind} ${group.name}: ${t.kind} is now ${t.word}`);
    }
    for (const [kind, inode] of Object.entries(state.host.namespaces)) now.set(`host/${kind}`, inode);
    if (changes.length) spoken.textContent = changes.join(". ");
    before = now;
  }

  function draw() {
    const state = model.get("state");
    if (!state.host) return;
    const active = root.getRootNode().activeElement;
    const focused = active && root.contains(active) ? active.dataset.key : null;
    root.replaceChildren(
      h("div", { class: "lkn-head" },
        h("div", { class: "lkn-title" }, h("span", { class: `lkn-live${state.error ? " off" : ""}`, title: state.error ? "not live" : "live" }), "Namespaces"),
        h("div", { class: "lkn-legend" }, h("span", {}, h("i", { class: "a" }), "its own"), h("span", {}, h("i", { class: "b" }), "the host’s")),
        chooser(state)),
      ...(state.error ? [h("div", { class: "lkn-warn", role: "status" }, `Not live: ${state.error}`)] : []),
      ...[by === "owner" ? byOwner(state) : byKind(state, by)].flat(), say, spoken);
    announce(state);
    if (focused) {
      const again = root.querySelector(`[data-key="${CSS_escape(focused)}"]`);
      again?.focus();
      if (again?.setSelectionRange) again.setSelectionRange(again.value.length, again.value.length);
    }
    pick(focused ? root.querySelector(`[data-key="${CSS_escape(focused)}"]`)?.dataset.ns : pinned);
  }

  const CSS_escape = (text) => text.replace(/["\\]/g, "\\$&");
  const beat = () => { if (!document.hidden) model.send({ type: "beat", view }); };
  const timer = setInterval(beat, BEAT_MS);
  document.addEventListener("visibilitychange", beat);
  model.on("change:state", draw);
  model.on("change:verdict", draw);
  draw();
  beat();
  return () => {
    clearInterval(timer);
    document.removeEventListener("visibilitychange", beat);
    model.off("change:state", draw);
    model.off("change:verdict", draw);
    model.send({ type: "gone", view });
  };
}

export default { render };
