// A question with a few answers to choose from. Python holds the state; this draws it.

const STYLE = `
.lk-predict { border-left: 4px solid var(--jp-brand-color1, #0072b2); padding: .6em 1em; margin: .3em 0;
  background: var(--jp-layout-color2, rgba(127,127,127,.08)); color: var(--jp-ui-font-color1, inherit);
  font: var(--jp-content-font-size1, 14px)/1.5 var(--jp-content-font-family, system-ui, sans-serif); border-radius: 2px; }
.lk-predict fieldset { border: 0; margin: 0; padding: 0; }
.lk-predict legend { padding: 0; font-weight: 600; }
.lk-predict label { display: block; padding: .15em .4em; border-radius: 3px; cursor: pointer; }
.lk-predict label:hover { background: var(--jp-layout-color3, rgba(127,127,127,.15)); }
.lk-predict input { margin-right: .6em; accent-color: var(--jp-brand-color1, #0072b2); }
.lk-predict .note { color: var(--jp-ui-font-color2, inherit); font-size: .9em; min-height: 1.5em; }
`;

function render({ model, el }) {
  const root = document.createElement("div");
  root.className = "lk-predict";
  const style = document.createElement("style");
  style.textContent = STYLE;
  const fieldset = document.createElement("fieldset");
  const legend = document.createElement("legend");
  legend.textContent = model.get("question");
  fieldset.append(legend);
  const group = `lk-${Math.random().toString(36).slice(2)}`;
  const inputs = model.get("choices").map((choice) => {
    const label = document.createElement("label");
    const input = document.createElement("input");
    input.type = "radio";
    input.name = group;
    input.value = choice;
    input.addEventListener("change", () => {
      model.set("chosen", choice);
      model.save_changes();
    });
    label.append(input, document.createTextNode(choice));
    fieldset.append(label);
    return input;
  });
  const note = document.createElement("div");
  note.className = "note";
  note.setAttribute("role", "status");
  const update = () => {
    const chosen = model.get("chosen");
    for (const input of inputs) input.checked = input.value === chosen;
    note.textContent = chosen ? "Kept. Now run the next cell and compare." : "Choose before you run the next cell.";
  };
  model.on("change:chosen", update);
  update();
  root.append(style, fieldset, note);
  el.append(root);
  return () => model.off("change:chosen", update);
}

export default { render };
