// Shows a drawing that Python has made (state.svg), in the colours of the page's theme. Pointing at
// a group (data-id), or moving to it with the Tab key, lights up its lines (data-from, data-to) and
// what they lead to. Python escapes every text in the drawing.

const CSS = `
.lkd{--fg:var(--jp-ui-font-color1,var(--vscode-foreground,#1f2328));--soft:var(--jp-ui-font-color2,var(--vscode-descriptionForeground,#656d76));
--line:var(--jp-border-color1,var(--vscode-panel-border,#c4cad1));--back:var(--jp-layout-color1,var(--vscode-editor-background,#fff));
--panel:color-mix(in srgb,var(--jp-layout-color2,var(--vscode-sideBar-background,#f0f2f5)) 55%,var(--back));
--focus:var(--jp-brand-color1,var(--vscode-focusBorder,#0072B2));color:var(--fg);font:13px/1.45 var(--jp-ui-font-family,system-ui,sans-serif)}
.lkd svg{--fg:inherit;display:block;width:100%;max-width:940px;height:auto}
.lkd [data-id]{cursor:default;transition:opacity .15s}
.lkd [data-id]:focus{outline:none}
.lkd [data-id]:focus-visible>rect:first-of-type{stroke:var(--focus);stroke-width:2.5}
.lkd path[data-from]{transition:opacity .15s}
.lkd.pick [data-id]:not(.same),.lkd.pick path[data-from]:not(.same){opacity:.25}
.lkd path.same{stroke-width:3.5}
.lkd-warn{border:1px solid #D55E00;border-radius:7px;padding:5px 10px;margin-bottom:8px}
.lkd-sr{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:pre-line}
`;
const BEAT_MS = 10_000;
const COLOURS = ["fg", "soft", "line", "back", "panel"];

function render({ model, el }) {
  const view = Math.random().toString(36).slice(2);
  const root = document.createElement("section");
  root.className = "lkd";
  const style = document.createElement("style");
  style.textContent = CSS;
  el.replaceChildren(style, root);
  let last = "";

  function pick(id) {
    root.classList.toggle("pick", Boolean(id));
    const same = new Set(id ? [id] : []);
    for (const line of root.querySelectorAll("path[data-from]")) {
      const mine = id && (line.dataset.from === id || line.dataset.to === id);
      line.classList.toggle("same", Boolean(mine));
      if (mine) same.add(line.dataset.from).add(line.dataset.to);
    }
    for (const group of root.querySelectorAll("[data-id]")) group.classList.toggle("same", same.has(group.dataset.id));
  }

  function draw() {
    const state = model.get("state");
    const key = `${state.svg}|${state.error}`;
    if (key === last) return;
    last = key;
    const active = root.getRootNode().activeElement;
    const focused = active && root.contains(active) ? active.dataset.id : null;
    root.setAttribute("aria-label", `${state.name} view`);
    root.replaceChildren();
    if (state.error) {
      const warning = document.createElement("div");
      warning.className = "lkd-warn";
      warning.setAttribute("role", "status");
      warning.textContent = `Not live: ${state.error}`;
      root.append(warning);
    }
    const found = new DOMParser().parseFromString(state.svg || "", "image/svg+xml").documentElement;
    if (found.nodeName === "svg") {
      // The page's theme decides, not the system's preference that the static twin follows.
      for (const name of COLOURS) found.style.setProperty(`--${name}`, getComputedStyle(root).getPropertyValue(`--${name}`));
      for (const sheet of found.querySelectorAll("style")) sheet.textContent = sheet.textContent.replace(/svg\{[^}]*\}|@media[^{]*\{(?:[^{}]|\{[^}]*\})*\}/g, "");
      root.append(document.importNode(found, true));
    }
    const said = document.createElement("div");
    said.className = "lkd-sr";
    said.textContent = state.text || "";
    root.append(said);
    for (const group of root.querySelectorAll("[data-id]")) {
      group.setAttribute("tabindex", "0");
      group.addEventListener("mouseenter", () => pick(group.dataset.id));
      group.addEventListener("mouseleave", () => pick(null));
      group.addEventListener("focus", () => pick(group.dataset.id));
      group.addEventListener("blur", () => pick(null));
    }
    if (focused) [...root.querySelectorAll("[data-id]")].find((group) => group.dataset.id === focused)?.focus();
  }

  const beat = () => { if (!document.hidden) model.send({ type: "beat", view }); };
  const repaint = () => { last = ""; draw(); };
  const themes = new MutationObserver(() => setTimeout(repaint, 60));
  themes.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name", "class"] });
  const timer = setInterval(beat, BEAT_MS);
  document.addEventListener("visibilitychange", beat);
  model.on("change:state", draw);
  draw();
  beat();
  return () => {
    clearInterval(timer);
    themes.disconnect();
    document.removeEventListener("visibilitychange", beat);
    model.off("change:state", draw);
    model.send({ type: "gone", view });
  };
}

export default { render };
