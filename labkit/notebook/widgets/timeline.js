// Draws the timeline of %explain: who did what when, one row per step, and the reason of the chosen one.

const CSS = `
.lkt{--fg:var(--jp-ui-font-color1,var(--vscode-foreground,#1f2328));--soft:var(--jp-ui-font-color2,var(--vscode-descriptionForeground,#656d76));
--line:var(--jp-border-color2,var(--vscode-panel-border,#d0d7de));--back:var(--jp-layout-color1,var(--vscode-editor-background,#fff));--panel:color-mix(in srgb,var(--jp-layout-color2,var(--vscode-sideBar-background,#f0f2f5)) 55%,var(--back));
--focus:var(--jp-brand-color1,var(--vscode-focusBorder,#0072B2));--mono:var(--jp-code-font-family,ui-monospace,Menlo,monospace);
color:var(--fg);font:13px/1.45 var(--jp-ui-font-family,system-ui,sans-serif);padding:4px 2px 8px}
.lkt *{box-sizing:border-box}
.lkt-head{display:flex;align-items:baseline;gap:14px;margin:2px 0 10px}
.lkt-head .what{font:600 14.5px/1.4 var(--mono);overflow-wrap:anywhere}
.lkt-head .sum{margin-left:auto;color:var(--soft);white-space:nowrap}
.lkt-chain{display:flex;flex-wrap:wrap;gap:8px 0;margin-bottom:12px;align-items:stretch}
.lkt-proc{border:2px solid var(--c);border-radius:9px;padding:5px 12px;min-width:9em;flex:1 1 0;max-width:19em}
.lkt-proc b{display:block;font-weight:650}
.lkt-proc span{display:block;font-size:12px;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.lkt-proc .pid{font:11.5px/1.45 var(--mono);color:var(--soft)}
.lkt-to{align-self:center;padding:0 9px;color:var(--soft);font-size:16px}
.lkt-legend{display:flex;flex-wrap:wrap;gap:4px 18px;color:var(--soft);font-size:12px;margin-bottom:8px}
.lkt-seg{margin-left:auto;display:inline-flex;border:1px solid var(--line);border-radius:7px;overflow:hidden}
.lkt-seg button{all:unset;padding:2px 10px;font-size:12px;cursor:pointer;color:var(--fg)}
.lkt-seg button[aria-checked=true]{background:var(--fg);color:var(--back)}
.lkt-seg button:focus-visible{outline:2px solid var(--focus);outline-offset:-3px}
.lkt-legend{align-items:center}
.lkt-legend i{display:inline-block;width:12px;height:12px;border-radius:3px;margin-right:6px;vertical-align:-1px}
.lkt-rows{border:1px solid var(--line);border-radius:9px;overflow:auto;max-height:560px;position:relative}
.lkt-row{all:unset;box-sizing:border-box;display:grid;grid-template-columns:minmax(11em,20em) minmax(8em,17em) minmax(9em,1fr) 5.6em;gap:0 12px;
align-items:center;width:100%;padding:2px 12px;cursor:pointer;font-size:12.5px;border-bottom:1px solid transparent}
.lkt-row:nth-child(odd){background:var(--panel)}
.lkt-row>*{overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.lkt-row .call{font-family:var(--mono);font-size:11.5px;color:var(--soft)}
.lkt-row .t{font:11.5px var(--mono);text-align:right;font-variant-numeric:tabular-nums}
.lkt-row .n i{display:inline-block;width:9px;height:9px;border-radius:3px;margin-right:8px}
.lkt-track{position:relative;height:17px}
.lkt-track i{position:absolute;top:3px;height:11px;border-radius:2px;min-width:3px}
.lkt-row[aria-selected=true]{box-shadow:inset 0 0 0 2px var(--fg);border-radius:5px}
.lkt-row:focus-visible{outline:2.5px solid var(--focus);outline-offset:-2px}
.lkt-row.bad .n{color:#D55E00;font-weight:650}
.lkt-why{border:1px solid var(--line);border-left:4px solid var(--c,var(--line));border-radius:8px;padding:8px 14px;margin-top:10px;min-height:5.6em}
.lkt-why b{font-weight:650}
.lkt-why p{margin:2px 0}
.lkt-why .call{font:12px/1.5 var(--mono)}
.lkt-why .s{color:var(--soft)}
@media (max-width:640px){.lkt-row{grid-template-columns:minmax(9em,1fr) minmax(6em,1fr) 5.2em}.lkt-row>.call{display:none}}
`;

function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

function render({ model, el }) {
  const state = model.get("state");
  const root = h("section", { class: "lkt", "aria-label": `Timeline of ${state.title}` });
  const why = h("div", { class: "lkt-why", "aria-live": "polite" });
  const colour = (by) => state.colours[by] ?? "#888888";
  let chosen = -1;

  function choose(index, focus) {
    chosen = Math.max(0, Math.min(state.steps.length - 1, index));
    const step = state.steps[chosen];
    rows.forEach((row, i) => {
      row.setAttribute("aria-selected", String(i === chosen));
      row.tabIndex = i === chosen ? 0 : -1;
    });
    if (focus) rows[chosen].focus();
    why.style.setProperty("--c", colour(step.by));
    why.replaceChildren(...[
      h("p", {}, h("b", {}, step.name), h("span", { class: "s" }, ` · ${state.who[step.by] ?? step.by} · ${step.ns.toLocaleString("en")} ns`)),
      h("p", {}, step.why),
      h("p", {}, step.call ? h("span", { class: "call" }, step.call) : null, step.detail ? h("span", { class: "s" }, `  ${step.detail}`) : null),
      step.error ? h("p", {}, h("b", {}, `failed: ${step.error}`)) : null].filter(Boolean));
  }

  let whole = false;
  const range = () => (whole ? [0, state.total_us] : [state.focus_us[0], state.focus_us[1]]);
  function place() {
    const [from, to] = range();
    const percent = (at) => (100 * (Math.max(from, Math.min(to, at)) - from)) / (to - from);
    state.steps.forEach((step, index) => {
      const [left, right] = [percent(step.start_us), percent(step.start_us + step.length_us)];
      const out = step.start_us > to || step.start_us + step.length_us < from;
      const bar = rows[index].querySelector(".lkt-track i");
      bar.style.left = `min(${left}%, calc(100% - 3px))`;
      bar.style.width = `${right - left}%`;
      bar.style.opacity = out ? "0.3" : "1";
      bar.classList.toggle("on", step.start_us < from || step.start_us + step.length_us > to);
    });
    for (const button of scale.querySelectorAll("button")) button.setAttribute("aria-checked", String((button.dataset.scale === "whole") === whole));
  }
  const button = (name, text) => h("button", { role: "radio", "data-scale": name, type: "button", onclick: () => { whole = name === "whole"; place(); } }, text);
  const scale = h("div", { class: "lkt-seg", role: "radiogroup", "aria-label": "Scale of the bars" },
    button("focus", `the start, ${state.focus_text}`), button("whole", `whole command, ${state.total_text}`));

  const rows = state.steps.map((step, index) => {
    return h("button", { class: `lkt-row${step.error ? " bad" : ""}`, role: "option", "aria-selected": "false", tabindex: index ? "-1" : "0",
      "aria-label": `${step.by}: ${step.name}, ${step.took}. ${step.why}`, onclick: () => choose(index, true) },
      h("span", { class: "n" }, h("i", { style: `background:${colour(step.by)}` }), step.name),
      h("span", { class: "call", title: step.call }, step.call || step.detail),
      h("span", { class: "lkt-track" }, h("i", { style: `background:${colour(step.by)}` })),
      h("span", { class: "t" }, step.took));
  });
  const keys = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -1e6, End: 1e6 };
  const onkeydown = (event) => {
    if (!(event.key in keys)) return;
    event.preventDefault();
    choose(chosen + keys[event.key], true);
  };
  const chain = state.processes.map((one, i) => [
    i ? h("span", { class: "lkt-to", "aria-hidden": "true" }, "→") : null,
    h("div", { class: "lkt-proc", style: `--c:${colour(one.role === "container" ? "child" : one.role)}` },
      h("b", {}, one.role), h("span", { title: one.text }, one.text),
      h("span", { class: "pid" }, one.pid === null ? "has ended already" : `PID ${one.pid}${one.inside === null ? "" : ` = PID ${one.inside} inside`}`)),
  ]);
  const present = Object.keys(state.who).filter((by) => state.steps.some((step) => step.by === by));
  root.append(
    h("div", { class: "lkt-head" }, h("div", { class: "what" }, state.title), h("span", { class: "sum" }, `${state.total_text} in all`)),
    ...(chain.length ? [h("div", { class: "lkt-chain", role: "group", "aria-label": "Processes, each started by the one before it" }, chain)] : []),
    h("div", { class: "lkt-legend" }, present.map((by) => h("span", {}, h("i", { style: `background:${colour(by)}` }), state.who[by])), scale),
    h("div", { class: "lkt-rows", role: "listbox", "aria-label": "Steps in order of time", onkeydown }, rows),
    why);
  if (state.problem) root.append(h("p", {}, `The kernel’s steps are not known here: ${state.problem}`));
  el.replaceChildren(h("style", {}, CSS), root);
  if (rows.length) { place(); choose(0, false); }
  else why.textContent = "Nothing was measured.";
}

export default { render };
