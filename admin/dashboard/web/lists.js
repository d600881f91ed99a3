// The allow and deny lists.
import { add, remove } from "./actions.js";
import { get } from "./api.js";
import { explainLink, plain } from "./bans.js";
import { h, oneLine, put, setText, Table } from "./dom.js";
import { plural, time } from "./format.js";

const most = 500;
const about = {
  allow: ["Allow list", "No limit or ban applies here. It beats every other list.", "Nobody is on the allow list."],
  deny: ["Deny list", "Whatever these send is dropped without an answer.", "Nobody is on the deny list."],
};

export function listsView(app, main) {
  let ended = false;
  const panels = ["allow", "deny"].map((list) => {
    const [title, text, empty] = about[list];
    const note = h("span", { class: "note" }), problem = h("p", { class: "problem", role: "alert" });
    const table = new Table({
      caption: title, empty, key: (e) => e.prefix + " " + e.origin, version: (e) => JSON.stringify(e),
      columns: [
        { title: "Prefix", cell: (e) => explainLink(e.prefix) },
        { title: "From", class: "clip", cell: (e) => [h("bdi", { title: oneLine(e.origin) }, e.origin === "command" ? "by command" : oneLine(e.origin)), e.created ? h("span", { class: "note" }, " ", time(e.created)) : null] },
        { title: "Comment", class: "clip", cell: (e) => h("bdi", { title: oneLine(e.comment) }, oneLine(e.comment)) },
        { title: "", class: "acts", cell: (e) => (e.origin === "command"
          ? h("button", { type: "button", class: "write", "aria-label": `Take ${plain(e.prefix)} off the ${list} list`, onclick: () => remove(list, plain(e.prefix)).then(load) }, "Take off")
          : h("span", { class: "note", title: "Remove it where it stands, then reload." }, "in a file")) },
      ],
    });
    async function load() {
      try {
        const entries = (await get("/v1/lists/" + list)).entries ?? [];
        if (ended) return;
        table.update(entries.slice(0, most));
        setText(note, plural(entries.length, "prefix", "prefixes") + (entries.length > most ? `, the first ${most} shown` : ""));
        setText(problem, "");
      } catch (e) {
        setText(problem, e.message);
      }
    }
    load();
    return h("section", { class: "panel", "aria-labelledby": list + "-title" },
      h("div", { class: "row between" }, h("h2", { id: list + "-title" }, title), h("button", { type: "button", class: "write", onclick: () => add(list).then(load) }, list === "allow" ? "Allow an address…" : "Deny an address…")),
      h("p", { class: "note" }, text, " ", note), problem, table.element);
  });
  put(main, h("h1", null, "Lists"), panels);
  return () => {
    ended = true;
  };
}
