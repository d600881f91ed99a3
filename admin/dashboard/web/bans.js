// The bans in force.
import { allow, ban, unban } from "./actions.js";
import { get } from "./api.js";
import { h, oneLine, put, setText, Table } from "./dom.js";
import { count, plural, time } from "./format.js";

const most = 500; // rows
const many = 5000; // bans from which on the list is not asked for with each change

export const plain = (prefix) => prefix.replace(/^([\d.]+)\/32$/, "$1").replace(/^([0-9a-f:]+)\/128$/i, "$1");
const first = (prefix) => prefix.replace(/\/\d+$/, "");

export const explainLink = (prefix) => h("a", { class: "mono", href: "#source/" + encodeURIComponent(first(prefix)) }, plain(prefix));

export const lasts = (b) => (b.until ? time(b.until, "left") : h("span", null, "for ever"));

export function bansView(app, main) {
  const filter = h("input", { type: "search", "aria-label": "Filter bans", placeholder: "Filter: address, reason, comment…", spellcheck: "false", autocomplete: "off", oninput: () => show() });
  const note = h("span", { class: "note" });
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
      h("div", { class: "row between" }, filter, note), problem, table.element));

  let all = [], version = "", loaded = 0, ended = false, loading = false, again = 0;
  function show() {
    const text = filter.value.trim().toLowerCase();
    const fits = all.filter((b) => text === "" || [b.prefix, b.reason, b.guard, b.kind, b.comment].some((t) => String(t ?? "").toLowerCase().includes(text)));
    table.update(fits.slice(0, most));
    setText(note, plural(all.length, "ban", "bans") + (fits.length < all.length ? `, ${count(fits.length)} of them fit` : "") + (fits.length > most ? `, the latest ${most} shown` : ""));
  }

  async function load() {
    if (loading || ended) return;
    loading = true;
    try {
      all = (await get("/v1/lists/bans")).bans ?? [];
      all.reverse();
      loaded = Date.now();
      setText(problem, "");
      if (!ended) show();
    } catch (e) {
      setText(problem, e.message);
    }
    loading = false;
  }

  // Changes come in bursts, so they are waited for a little.
  const changed = () => {
    if (all.length > many) return;
    clearTimeout(again);
    again = setTimeout(load, 250);
  };
  app.bansChanged.add(changed);
  const unwatch = app.watch((s) => {
    const b = s.bans, now = [b.added, b.expired, b.evicted, b.dynamic, b.permanent, b.manual].join();
    const total = b.dynamic + b.permanent + b.manual;
    if (now === version || (total > many && Date.now() - loaded < 30000)) return;
    version = now;
    load();
  });
  return () => {
    ended = true;
    clearTimeout(again);
    app.bansChanged.delete(changed);
    unwatch();
  };
}
