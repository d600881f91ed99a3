// Elements. Text goes in as text and nothing else: there is no way here to write markup, because
// much of what is shown was sent by strangers.

const svgNames = new Set(["svg", "g", "path", "rect", "line", "text", "title", "circle"]);

// h makes an element. Properties: "class", "on…" for listeners, "data-…" and "aria-…" and all other
// attributes by name; true stands for an attribute without a value, false and null for none.
export function h(name, props, ...children) {
  const e = svgNames.has(name) ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(props ?? {})) {
    if (key.startsWith("on")) e.addEventListener(key.slice(2), value);
    else if (value === true) e.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) e.setAttribute(key, value);
  }
  put(e, children);
  return e;
}

// put replaces what is in an element.
export function put(e, ...children) {
  e.replaceChildren(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
  return e;
}

// setText changes an element's text if it is not the same already.
export function setText(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

// visible shows what a terminal or a page would obey or hide: control characters, and those that
// change the direction of text or have no width.
export function visible(text) {
  return String(text ?? "").replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e0fff}]/gu, escaped);
}

// oneLine is visible for where a line end has no place either.
export function oneLine(text) {
  return visible(text).replace(/[\t\r\n]/g, escaped);
}

function escaped(c) {
  const n = c.codePointAt(0);
  return n < 0x100 ? "\\x" + n.toString(16).padStart(2, "0") : "\\u{" + n.toString(16) + "}";
}

// Table keeps its rows' elements by key, so that what has the focus keeps it while figures change.
// A column is {title, class, cell(row) → nodes}; cells are made again when row.version changes.
export class Table {
  constructor({ caption, columns, key, version, empty }) {
    Object.assign(this, { columns, key, version });
    this.rows = new Map();
    this.body = h("tbody");
    this.none = h("p", { class: "none" }, empty);
    this.table = h("table", { class: columns.length <= 3 ? "slim" : null }, h("caption", { class: "unseen" }, caption),
      h("thead", null, h("tr", null, columns.map((c) => h("th", { scope: "col", class: c.class }, c.title)))), this.body);
    this.element = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, this.table, this.none);
    this.update([]);
  }

  update(list) {
    const left = new Map(this.rows);
    this.rows = new Map();
    let at = this.body.firstChild;
    for (const row of list) {
      const key = this.key(row), version = this.version ? this.version(row) : key;
      let known = left.get(key);
      left.delete(key);
      if (!known) known = { element: h("tr") };
      if (known.version !== version) {
        put(known.element, this.columns.map((c) => h("td", { class: c.class, "data-title": c.title }, c.cell(row))));
        known.version = version;
      }
      this.rows.set(key, known);
      if (at === known.element) at = at.nextSibling;
      else this.body.insertBefore(known.element, at);
    }
    for (const known of left.values()) known.element.remove();
    this.none.hidden = list.length > 0;
    this.table.hidden = list.length === 0;
  }
}

// say tells it to who does not see the page.
export function say(text) {
  document.getElementById("says").textContent = text;
}

// toast shows a message for some seconds; an error stays until it is closed.
export function toast(text, kind = "good") {
  const e = h("div", { class: "toast " + kind, role: kind === "bad" ? "alert" : "status" }, h("span", null, text),
    h("button", { type: "button", class: "quiet", "aria-label": "Close this message", onclick: () => e.remove() }, "×"));
  const all = document.getElementById("toasts");
  all.append(e);
  while (all.children.length > 3) all.firstChild.remove();
  if (kind !== "bad") setTimeout(() => e.remove(), 8000);
}

// ask shows a dialog and resolves with the values of its fields, or null when it was cancelled.
// What is done is done by act(values) while the dialog is open; its error is shown in there.
export function ask({ title, text, fields = [], confirm, danger, act }) {
  return new Promise((resolve) => {
    const problem = h("p", { class: "problem", role: "alert" });
    const inputs = fields.map((f) => ({ ...f, element: f.options
      ? h("select", { name: f.name }, f.options.map(([value, label]) => h("option", { value, selected: value === f.value }, label)))
      : h("input", { name: f.name, type: f.type ?? "text", value: f.value ?? null, maxlength: f.max ?? 200, required: f.required ?? false, placeholder: f.example ?? null, autocomplete: "off", spellcheck: "false" }) }));
    const go = h("button", { type: "submit", class: danger ? "danger" : "primary" }, confirm);
    let done = null;
    const form = h("form", { onsubmit: submit },
      h("h2", { id: "asked" }, title),
      text.map((t) => h("p", null, t)),
      inputs.map((f) => h("label", null, h("span", null, f.label), f.element, f.hint ? h("small", null, f.hint) : null)),
      problem,
      h("div", { class: "row end" }, h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), go));
    const dialog = h("dialog", { "aria-labelledby": "asked", onclose: () => { dialog.remove(); resolve(done); } }, form);
    async function submit(ev) {
      ev.preventDefault();
      const values = Object.fromEntries(inputs.map((f) => [f.name, f.element.value.trim()]));
      go.disabled = true;
      try {
        await act(values);
        done = values;
        dialog.close();
      } catch (e) {
        setText(problem, e.message);
        go.disabled = false;
      }
    }
    document.body.append(dialog);
    dialog.showModal();
  });
}
