// Everything that is known about one source, and why.
import { allow, ban, unban } from "./actions.js";
import { get, query } from "./api.js";
import { lasts, plain } from "./bans.js";
import { h, oneLine, put, visible } from "./dom.js";
import { absolute, count, duration, plural, time } from "./format.js";

const standings = { stranger: "Stranger", good: "In good standing", trunk: "Trunk", allowed: "On the allow list" };

export function sourceView(app, main, address) {
  const body = h("div");
  const input = h("input", { id: "address", name: "address", value: address, required: true, maxlength: 100, placeholder: "192.0.2.1", spellcheck: "false", autocomplete: "off" });
  put(main, h("h1", null, address ? h("bdi", null, oneLine(address)) : "Source"),
    h("form", { class: "panel row", onsubmit: (ev) => {
      ev.preventDefault();
      location.hash = "source/" + encodeURIComponent(input.value.trim());
    } }, h("label", { for: "address" }, "Address"), input, h("button", { type: "submit", class: "primary" }, "Explain"),
    h("span", { class: "note" }, "What is known of it, what it is banned for, and how to undo that.")), body);
  let ended = false;
  async function load() {
    if (!address) return;
    try {
      const x = await get(query("/v1/explain", { address }));
      if (!ended) put(body, explanation(x, load));
    } catch (e) {
      if (!ended) put(body, h("p", { class: "problem", role: "alert" }, e.message));
    }
  }
  load();
  return () => {
    ended = true;
  };
}

// rows makes a list of names and values; values that are missing are left out.
export function rows(...pairs) {
  return h("dl", null, pairs.filter(([, v]) => v !== null && v !== undefined && v !== "").map(([k, v]) => h("div", null, h("dt", null, k), h("dd", null, v))));
}

function explanation(x, load) {
  const stopped = x.verdict !== "pass", banned = x.bans ?? [];
  return [
    h("section", { class: "panel", "data-state": stopped ? "bad" : "good" },
      h("div", { class: "row between" },
        h("h2", null, stopped ? "✕ Its packets are dropped" : "✓ Its packets are let in", h("span", { class: "tag" }, x.reason)),
        h("div", { class: "row" },
          banned.map((b) => h("button", { type: "button", class: "primary write", onclick: () => unban(plain(b.prefix)).then(load) }, "Unban " + plain(b.prefix))),
          h("button", { type: "button", class: "write", onclick: () => allow(x.address).then(load) }, "Allow…"),
          banned.length === 0 ? h("button", { type: "button", class: "write", onclick: () => ban(x.address).then(load) }, "Ban…") : null)),
      h("p", null, x.why),
      rows(["Counted and banned as", h("span", { class: "mono" }, plain(x.source))],
        ["Standing", [standings[x.standing] ?? x.standing, x.standing_why ? h("div", { class: "note" }, visible(x.standing_why)) : null]],
        ["Earlier bans", x.blocks > 0 ? plural(x.blocks, "ban counts", "bans count") + (x.block_threshold ? ` towards a permanent one, which comes with number ${x.block_threshold}` : "") : null],
        ["Lists", x.lists?.length ? h("ul", null, x.lists.map((l) => h("li", null, `${l.list}: `, h("span", { class: "mono" }, plain(l.prefix)), ` (${oneLine(l.origin)}) ${oneLine(l.comment)}`))) : null]),
      x.undo?.length ? h("details", null, h("summary", null, "How to undo it in a terminal"), h("pre", null, x.undo.map(visible).join("\n"))) : null),
    banned.map(banPanel),
    x.guards?.length ? h("section", { class: "panel" }, h("h2", null, "What the guards have counted"),
      h("ul", { class: "meters" }, x.guards.map((g) => h("li", null,
        h("span", null, h("b", null, oneLine(g.guard)), ` ${count(g.count)}${g.limit ? " of " + count(g.limit) : ""} ${oneLine(g.what)}`, g.seconds ? ` within ${duration(g.seconds)}` : "", g.account ? [" of ", h("bdi", { class: "mono" }, oneLine(g.account))] : null),
        g.limit ? h("meter", { min: 0, max: g.limit, low: g.limit * 0.5, high: g.limit * 0.9, optimum: 0, value: Math.min(g.count, g.limit), "aria-label": `${g.guard}: ${g.count} of ${g.limit}` }) : null)))) : null,
    x.quarantines?.length ? h("section", { class: "panel" }, h("h2", null, "Accounts shut out from this source alone"),
      h("ul", null, x.quarantines.map((q) => h("li", null, h("bdi", { class: "mono" }, oneLine(q.account)), " ", time(q.until, "left"))))) : null,
    x.messages?.length ? messages("The last messages that counted against it", x.messages) : null,
  ];
}

function banPanel(b) {
  const e = b.evidence ?? {};
  return [h("section", { class: "panel" }, h("h2", null, "Ban of " + plain(b.prefix)),
    rows(["Reason", [h("b", null, oneLine(b.reason)), b.guard !== b.reason ? ` (guard ${oneLine(b.guard)})` : ""]],
      ["Charge", e.charge ? visible(e.charge) : null],
      ["Kind", `${b.kind}, ${b.proven ? "proven: nobody else can have forged what it is for" : b.kind === "dynamic" ? "unproven: the address may have been forged" : "by " + oneLine(b.origin)}`],
      ["Since", [absolute(b.start), " (", time(b.start), ")"]],
      ["Until", b.until ? [absolute(b.until), " (", lasts(b), ")"] : "for ever"],
      ["Given by", e.by ? oneLine(e.by) : null],
      ["Standing then", e.standing ? visible(e.standing) : null],
      ["Comment", b.comment && b.comment !== e.charge ? visible(b.comment) : null])),
  e.exhibits?.length ? messages("Evidence: the messages it is for", e.exhibits, e.omitted_bytes) : null];
}

// messages shows heads of messages; credentials have been blanked by sipward.
function messages(title, list, omitted) {
  return h("section", { class: "panel" }, h("h2", null, title),
    h("ol", { class: "messages" }, [...list].reverse().map((m, i) => h("li", null,
      h("details", { open: i === 0 }, h("summary", null,
        h("span", { class: "mono" }, absolute(m.time).slice(11, 19)), " ", h("b", null, oneLine(m.method)), m.status ? ` answered ${m.status}` : "", " ",
        h("span", { class: "tag" }, oneLine(m.reason)), m.proven ? h("span", { class: "tag" }, "proven") : null, " ", h("bdi", { class: "mono" }, oneLine(m.account))),
      rows(["Time", absolute(m.time)], ["Nonce", m.nonce && m.nonce !== "none" ? m.nonce : null], ["Detail", m.detail ? visible(m.detail) : null]),
      m.text ? h("pre", { class: "message", tabindex: "0", "aria-label": "The message" }, visible(m.text.trimEnd())) : null)))),
    omitted ? h("p", { class: "note" }, `${count(omitted)} bytes more were too large to be kept.`) : null);
}
