// A session's page: says what runs, leaves it when asked, and keeps its last words when it is over.

const facts = JSON.parse(document.body.dataset.facts);
const find = (selector) => document.querySelector(selector);
const frame = find("iframe");
const transcript = find("pre");
const leave = find("#leave");

// Jupyter's page around us says which theme is on; alone, the system does.
function followTheme() {
  let outer = null;
  try {
    outer = window.parent !== window ? window.parent.document.body : null;
  } catch {
    outer = null; // embedded somewhere else
  }
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const said = outer?.dataset.jpThemeLight;
    const theme = (said === undefined ? dark.matches : said === "false") ? "dark" : "light";
    const root = document.documentElement;
    // The page inside reads its theme once, from a setting that the one outside is just saving.
    if (root.dataset.theme && root.dataset.theme !== theme && !frame.hidden)
      setTimeout(() => frame.contentWindow?.location.reload(), 1500);
    root.dataset.theme = theme;
  };
  if (outer) new MutationObserver(apply).observe(outer, { attributes: true });
  dark.addEventListener("change", apply);
  apply();
}

// What a shell needs quoting for, roughly: the title is read, never run.
const quoted = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

function xsrf() {
  return document.cookie.split("; ").find((one) => one.startsWith("_xsrf="))?.slice(6) ?? "";
}

// The end of the output as plain text: colours and cursor movements belong to a terminal.
function plain(text) {
  return text
    .replace(/\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)/g, "")
    .replace(/\x1b\[[0-9;?<=>]*[ -/]*[@-~]/g, "")
    .replace(/\x1b[ -/]*[0-~]/g, "")
    .replace(/\r\n/g, "\n")
    .replace(/[^\n]\x08/g, "")
    .replace(/[\x00-\x08\x0b-\x1f\x7f]/g, "");
}

// Nothing of Jupyter's page but the terminal itself: the page is moved up until its terminal
// begins where our frame does. Its script lays it out in numbers, so hiding alone leaves a hole.
function undress() {
  const inside = frame.contentDocument;
  const terminal = inside?.querySelector(".jp-Terminal");
  if (!terminal) return;
  if (!inside.getElementById("labkit-bare")) {
    const style = inside.createElement("style");
    style.id = "labkit-bare";
    style.textContent = "#top-panel-wrapper,#menu-panel-wrapper{visibility:hidden}";
    inside.head.append(style);
  }
  const above = Math.round(terminal.getBoundingClientRect().top);
  if (frame.style.top !== `${-above}px`) {
    frame.style.top = `${-above}px`;
    frame.style.height = `calc(100% + ${above}px)`;
  }
}

const endings = { left: "detached; the container goes on", ended: "ended", gone: "over" };

function show(session) {
  const running = session.state === "running";
  const code = session.exit_code;
  find(".dot").className = `dot ${running ? "running" : code ? "bad" : ""}`;
  const coda = session.state === "ended" && code !== null ? `, exit code ${code}` : "";
  find("#state").textContent = running ? "running" : `${endings[session.state] ?? session.state}${coda}`;
  leave.disabled = !running;
  if (running) {
    if (facts.terminal) {
      if (frame.hidden) {
        frame.hidden = false;
        setInterval(undress, 250);
        frame.src = facts.terminal;
      }
    } else {
      transcript.hidden = false;
      transcript.textContent = "This server has no page for a terminal alone: use the button “Open in a tab” below.";
    }
    return;
  }
  frame.hidden = true;
  frame.src = "about:blank";
  transcript.hidden = false;
  transcript.textContent =
    session.state === "gone"
      ? "This terminal has ended together with its Jupyter server. Run the cell again for a new one."
      : plain(session.text) || "(no output)";
  transcript.scrollTop = transcript.scrollHeight;
}

async function follow() {
  let pause = 0;
  for (;;) {
    try {
      const answer = await fetch(`${facts.api}?wait=20`, { credentials: "same-origin" });
      if (answer.status === 404) return show({ state: "gone" });
      if (!answer.ok) throw new Error(String(answer.status));
      const session = await answer.json();
      pause = 0;
      if (session.state !== "running") return show(session);
    } catch {
      find("#state").textContent = "the server does not answer";
      pause = Math.min(10000, pause * 2 || 500);
      await new Promise((done) => setTimeout(done, pause));
    }
  }
}

leave.addEventListener("click", async () => {
  leave.disabled = true;
  const answer = await fetch(`${facts.api}/leave`, {
    method: "POST",
    credentials: "same-origin",
    headers: { "X-XSRFToken": xsrf() },
  });
  if (answer.ok) return;
  leave.disabled = false;
  find("#state").textContent = answer.status === 409 ? "not attached yet" : "could not detach";
});

const title = (facts.session.words ?? []).map(quoted).join(" ");
find("h1").textContent = title ? `docker ${title}` : "docker";
document.title = title ? `docker ${title}` : "labkit terminal";
frame.title = `Terminal: docker ${title}`;
followTheme();
show(facts.session);
if (facts.session.state === "running") follow();
