// The bans in force.
import { allow, ban, unban } from "./actions.js";
import { get, query } from "./api.js";
import { h, oneLine, put, setText, Table } from "./dom.js";
import { count, plural, time } from "./format.js";

const rows = 200; // on a page

export const plain = (prefix) => prefix.replace(/^([\d.]+)\/32$/, "$1").replace(/^([0-9a-f:]+)\/128$/i, "$1");
const first = (prefix) => prefix.replace(/\/\d+$/, "");

export const explainLink = (prefix) => h("a", { class: "mono", href: "#source/" + encodeURIComponent(first(prefix)) }, plain(prefix));

export const lasts = (b) => (b.until ? time(b.until, "left") : h("span", null, "for ever"));

export function bansView(app, main) {
  const filter = h("input", { type: "search", "aria-label": "Filter bans", placeholder: "Filter: address, reason, comment…", spellcheck: "false", autocomplete: "off", maxlength: 100, oninput: () => {
    clearTimeout(typing);
    typing = setTimeout(() => turn([""]), 250);
  } });
  const note = h("span", { class: "note" });
  const later = h("button", { type: "button", onclick: () => turn(cursors.slice(0, -1)) }, "Later bans");
  const earlier = h("button", { type: "button", onclick: () => turn([...cursors, next]) }, "Earlier bans");
  const pages = h("div", { class: "row between", hidden: true }, later, earlier);
  const problem = h("p", { class: "problem", role: "alert" });
  const table = new Table({
    caption: "Bans in force, the latest first", empty: "Nobody is banned.",
    key: (b) => b.prefix, version: (b) => JSON.stringify(b),
    columns: [
      { title: "Source", cell: (b) => explainLink(b.prefix) },
      { title: "Why", cell: (b) => [h("b", null, oneLine(b.reason)), b.guard !== b.reason ? h("span", { class: "note" }, " " + oneLine(b.guard)) : null, b.comment ? h("div", { class: "note clip wide" }, h("bdi", { title: oneLine(b.comment) }, oneLine(b.comment))) : null] },
      { title: "Kind", cell: (b) => [h("span", { class: "tag" }, b.kind), b.kind === "dynamic" ? h("span", { class: "tag", title: b.proven ? "Nobody else can have forged what it is for." : "The address may have been forged, so the ban is short." }, b.proven ? "proven" : "unproven") : null] },
      { title: "Since", cell: (b) => time(b.start) },
      { title: "Time left", cell: lasts },
      { title: "", class: "acts", cell: (b) => [
        h("a", { class: "button", href: "#source/" + encodeURIComponent(first(b.prefix)), "aria-label": "Why is " + plain(b.prefix) + " banned?" }, "Why?"),
        h("button", { type: "button", class: "write", "aria-label": "Lift the ban of " + plain(b.prefix), onclick: () => unban(plain(b.prefix)).then(load) }, "Unban"),
        h("button", { type: "button", class: "write", "aria-label": "Allow " + plain(b.prefix), onclick: () => allow(plain(b.prefix)).then(load) }, "Allow"),
      ] },
    ],
  });
  put(main,
    h("div", { class: "row between" }, h("h1", null, "Bans"), h("button", { type: "button", class: "primary write", onclick: () => ban().then(load) }, "Ban an address…")),
    h("section", { class: "panel", "aria-label": "Bans in force" },
      h("div", { class: "row between" }, filter, note), problem, table.element, pages));

  // cursors lead to this page and those before it; next leads to the one after it.
  let cursors = [""], next = "", version = "", ended = false, loading = null, again = 0, typing = 0;

  function turn(to) {
    cursors = to;
    return load();
  }

  function show(page, text) {
    const from = (cursors.length - 1) * rows;
    next = page.next ?? "";
    table.update(page.bans ?? []);
    const shown = page.bans?.length ?? 0, all = shown === page.total;
    setText(note, (text === "" ? plural(page.total, "ban", "bans") : plural(page.total, "ban fits", "bans fit")) + (all || shown === 0 ? "" : `, ${count(from + 1)} to ${count(from + shown)} shown`));
    later.disabled = cursors.length === 1;
    earlier.disabled = next === "";
    pages.hidden = later.disabled && earlier.disabled;
  }

  // load asks for the page that is to be shown. What was asked for meanwhile is asked for after it.
  async function load() {
    if (ended) return;
    if (loading) {
      loading = "again";
      return;
    }
    loading = "once";
    const text = filter.value.trim(), cursor = cursors.at(-1);
    try {
      const page = await get(query("/v1/lists/bans", { limit: rows, order: "latest", cursor, match: text }));
      setText(problem, "");
      if (!ended && cursor === cursors.at(-1)) {
        if (page.bans.length === 0 && cursors.length > 1) {
          cursors = cursors.slice(0, -1); // those of this page have ended
          loading = "again";
        } else show(page, text);
      }
    } catch (e) {
      setText(problem, e.message);
    }
    const more = loading === "again";
    loading = null;
    if (more) await load();
  }

  // Changes come in bursts, so they are waited for a little.
  const changed = () => {
    clearTimeout(again);
    again = setTimeout(load, 250);
  };
  app.bansChanged.add(changed);
  const unwatch = app.watch((s) => {
    const b = s.bans, now = [b.added, b.expired, b.evicted, b.dynamic, b.permanent, b.manual].join();
    if (now === version) return;
    version = now;
    load();
  });
  return () => {
    ended = true;
    clearTimeout(again);
    clearTimeout(typing);
    app.bansChanged.delete(changed);
    unwatch();
  };
}
