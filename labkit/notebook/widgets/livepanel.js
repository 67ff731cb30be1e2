// Draws the panel of a background job: title, state, a stop button, and the end of its output.

const CSS = `
.lkp{--fg:var(--jp-ui-font-color1,var(--vscode-foreground,#1f2328));--soft:var(--jp-ui-font-color2,var(--vscode-descriptionForeground,#656d76));
--line:var(--jp-border-color2,var(--vscode-panel-border,#d0d7de));--back:var(--jp-layout-color1,var(--vscode-editor-background,#fff));--panel:color-mix(in srgb,var(--jp-layout-color2,var(--vscode-sideBar-background,#f0f2f5)) 55%,var(--back));
--focus:var(--jp-brand-color1,var(--vscode-focusBorder,#0072B2));--mono:var(--jp-code-font-family,ui-monospace,Menlo,monospace);
color:var(--fg);font:13px/1.45 var(--jp-ui-font-family,system-ui,sans-serif);border:1px solid var(--line);border-radius:10px;
overflow:hidden;margin:4px 2px;background:var(--back)}
.lkp-head{display:flex;align-items:center;gap:12px;padding:7px 12px;background:var(--panel);border-bottom:1px solid var(--line)}
.lkp-dot{width:10px;height:10px;border-radius:50%;flex:none;background:#009E73}
.lkp-dot.ended{background:transparent;border:2px solid var(--soft)}
.lkp-dot.bad{background:transparent;border:2px solid #D55E00}
@keyframes lkp-pulse{50%{opacity:.35}}
.lkp-dot.running{animation:lkp-pulse 1.6s infinite}
@media (prefers-reduced-motion:reduce){.lkp-dot.running{animation:none}}
.lkp-title{font:600 12.5px var(--mono);overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.lkp-state{margin-left:auto;color:var(--soft);font-size:12px;white-space:nowrap}
.lkp button{font:inherit;font-size:12px;font-weight:600;color:var(--fg);background:var(--back);border:1px solid var(--soft);
border-radius:7px;padding:2px 12px;cursor:pointer}
.lkp button:disabled{opacity:.4;cursor:default}
.lkp button:focus-visible,.lkp pre:focus-visible{outline:2.5px solid var(--focus);outline-offset:1px}
.lkp pre{margin:0!important;padding:9px 12px!important;max-height:300px;min-height:3.2em;overflow:auto;font:12px/1.5 var(--mono)!important;
white-space:pre-wrap;overflow-wrap:anywhere;background:var(--back)!important;color:var(--fg)!important}
.lkp .cut{color:var(--soft);font-style:italic}
`;

function render({ model, el }) {
  const dot = document.createElement("span");
  const title = Object.assign(document.createElement("span"), { className: "lkp-title" });
  const status = Object.assign(document.createElement("span"), { className: "lkp-state" });
  status.setAttribute("role", "status");
  const stop = Object.assign(document.createElement("button"), { type: "button", textContent: "Stop" });
  const output = document.createElement("pre");
  output.tabIndex = 0;
  output.setAttribute("role", "log");
  const head = Object.assign(document.createElement("div"), { className: "lkp-head" });
  head.append(dot, title, status, stop);
  const root = Object.assign(document.createElement("section"), { className: "lkp" });
  root.append(head, output);
  el.replaceChildren(Object.assign(document.createElement("style"), { textContent: CSS }), root);

  stop.addEventListener("click", () => {
    stop.disabled = true;
    status.textContent = "stopping";
    model.send({ type: "stop" });
  });

  function draw() {
    const state = model.get("state");
    const alive = state.code === null;
    const atEnd = output.scrollHeight - output.scrollTop - output.clientHeight < 24;
    root.setAttribute("aria-label", `Background job ${state.number}: ${state.title}`);
    output.setAttribute("aria-label", "Output");
    dot.className = `lkp-dot ${alive ? "running" : state.code && state.state !== "stopped" ? "bad" : "ended"}`;
    title.textContent = title.title = state.title;
    status.textContent = alive ? state.state : `${state.state}, exit code ${state.code}`;
    stop.disabled = state.state !== "running";
    output.replaceChildren();
    if (state.cut) output.append(Object.assign(document.createElement("span"), { className: "cut", textContent: "… earlier output is not shown\n" }));
    output.append(state.text || (alive ? "waiting for output …" : "(no output)"));
    if (atEnd) output.scrollTop = output.scrollHeight;
  }
  model.on("change:state", draw);
  draw();
  output.scrollTop = output.scrollHeight;
  return () => model.off("change:state", draw);
}

export default { render };
