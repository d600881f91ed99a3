// sipward itself: PBXes, the mirror in the kernel, listeners, guards, the database.
import { h, oneLine, put, setText, Table } from "./dom.js";
import { absolute, count, duration, time } from "./format.js";
import { rows } from "./source.js";

const state = (good, text) => h("span", { class: "state", "data-state": good ? "good" : "bad" }, h("span", { "aria-hidden": "true" }, good ? "● " : "▲ "), text);

// mirrorOff: nothing is to follow in the kernel, because nobody wants it or, with "auto", there is none to be had.
export const mirrorOff = (k) => k.backend === "none" && (k.configured === "none" || k.configured === "auto");

export function systemView(app, main) {
  const head = h("div"), kernel = h("div"), store = h("div"), journal = h("div"), tcp = h("p", { class: "note" }), again = h("p", { class: "note" });
  const protocols = h("div");
  const version = (x) => JSON.stringify(x);
  const pbx = new Table({ caption: "PBXes", empty: "No PBX.", key: (p) => p.address, version, columns: [
    { title: "Address", class: "mono", cell: (p) => p.address },
    { title: "State", cell: (p) => state(p.up, p.up ? "up" : "down") },
    { title: "Since", cell: (p) => (p.since ? time(p.since, "for") : "the start") },
    { title: "Why", cell: (p) => h("bdi", null, p.up ? "" : oneLine(p.why)) },
    { title: "Weight", class: "num", cell: (p) => count(p.weight) },
  ] });
  const sets = new Table({ caption: "Sets in the kernel", empty: "There are none.", key: (s) => s.name, version, columns: [
    { title: "Set", class: "mono", cell: (s) => s.name },
    { title: "Entries", class: "num", cell: (s) => count(s.entries) },
    { title: "Not yet there", class: "num", cell: (s) => count(s.pending) },
    { title: "No room for", class: "num", cell: (s) => count(s.over) },
  ] });
  const udp = new Table({ caption: "UDP listeners", empty: "None.", key: (u) => u.listener, version, columns: [
    { title: "Listener", class: "mono", cell: (u) => u.listener },
    { title: "Received", class: "num", cell: (u) => count(u.received) },
    { title: "Sent", class: "num", cell: (u) => count(u.sent) },
    { title: "Send errors", class: "num", cell: (u) => count(u.send_errors) },
    { title: "Lost in the receive queue", class: "num", cell: (u) => count(u.queue_drops) },
  ] });
  const guards = new Table({ caption: "Guards", empty: "None.", key: (g) => g.name, version, columns: [
    { title: "Guard", class: "mono", cell: (g) => g.name },
    { title: "Action", cell: (g) => oneLine(g.action) },
    { title: "Messages stopped", class: "num", cell: (g) => count(g.messages) },
    { title: "Bans in force", class: "num", cell: (g) => count(g.bans) },
    { title: "Would have acted", class: "num", cell: (g) => (g.would ? count(g.would) : "") },
  ] });
  const schedules = new Table({ caption: "Scheduled reports", empty: "None (report.schedule).", key: (r) => r.number, version, columns: [
    { title: "When", cell: (r) => `${r.every}, ${r.at}` },
    { title: "By channel", class: "mono", cell: (r) => oneLine(r.channel) },
    { title: "Next", cell: (r) => time(r.next, "left") },
    { title: "Mailed last", cell: (r) => (r.last ? time(r.last) : "never") },
    { title: "State", cell: (r) => (r.error ? [state(false, oneLine(r.error)), r.again ? [" again in ", time(r.again, "left")] : null] : state(true, "in order")) },
  ] });
  const counted = (caption) => new Table({ caption, empty: "None so far.", key: (r) => r[0], version, columns: [
    { title: "What", class: "mono", cell: (r) => oneLine(r[0]) }, { title: "Messages", class: "num", cell: (r) => count(r[1]) },
  ] });
  const reasons = counted("Messages by reason"), faults = counted("Malformed messages by fault"), replies = counted("Answers of the PBXes by class");
  const panel = (title, ...children) => h("section", { class: "panel" }, h("h2", null, title), children);
  put(main, h("h1", null, "System"), panel("This sipward", head),
    panel("PBXes", pbx.element),
    panel("Mirror in the kernel", kernel, sets.element),
    panel("Listeners and connections", udp.element, tcp, again),
    panel("Protocols", protocols),
    panel("Guards", guards.element),
    h("div", { class: "three" }, panel("By reason", reasons.element), panel("Malformed, by fault", faults.element), panel("Answers of the PBXes", replies.element)),
    h("div", { class: "two" }, panel("Database", store), panel("Journal", journal)),
    panel("Scheduled reports", schedules.element));

  const most = (counts) => Object.entries(counts ?? {}).sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
  let shown = "";
  return app.watch((s) => {
    pbx.update(s.pbx ?? []);
    sets.element.hidden = s.kernel.backend === "none";
    sets.update(s.kernel.backend === "none" ? [] : s.kernel.sets ?? []);
    udp.update(s.udp ?? []);
    guards.update(s.guards ?? []);
    reasons.update(most(s.reasons));
    faults.update(most(s.faults));
    replies.update(most(s.replies));
    schedules.update((s.reports ?? []).map((r, i) => ({ ...r, number: i })));
    const t = s.tcp;
    setText(tcp, `TCP: ${count(t.open)} open, ${count(t.accepted)} accepted, ${count(t.refused)} refused, ${count(t.slow)} too slow, ${count(t.idle)} idle, ${count(t.faults)} with framing errors.`);
    const r = s.retransmit;
    again.hidden = !Object.values(r).some((n) => n > 0);
    setText(again, `Between connections and UDP: ${count(r.transactions)} transactions remembered, ${count(r.timers + r.replays)} messages sent again, ${count(r.absorbed)} repeats absorbed, ${count(r.timed_out)} calls never answered, ${count(r.refused)} requests refused for want of room.`);
    const k = s.kernel, now = JSON.stringify([s.started, s.config, k, s.store, s.journal, s.tftp, s.dns]);
    if (now === shown) return;
    shown = now;
    put(head, rows(["Version", s.version], ["Mode", s.mode], ["Up", h("span", null, time(s.started, "for"), ` since ${absolute(s.started)}`)],
      ["Outside", h("span", { class: "mono" }, s.outside.join(", "))], ["Inside", h("span", { class: "mono" }, s.inside.join(", "))],
      ["Configuration", s.config ? h("span", { class: "mono" }, s.config) : null], ["Process", String(s.pid)]));
    put(protocols, rows(["SIP", "on: " + s.outside.join(", ")], ["TFTP", s.tftp ? tftp(s.tftp) : "off"], ["DNS", s.dns ? figures(s.dns) : "off"]));
    put(kernel, rows(["State", mirrorOff(k) ? "off: sipward alone drops what is banned" + (k.configured === "auto" && k.reason ? ` (${oneLine(k.reason)})` : "") : k.reason ? state(false, "does not follow: " + oneLine(k.reason)) : state(true, "follows, by " + k.backend)],
      ["Scope", k.backend === "none" ? null : k.scope], ["Dropped there", k.backend === "none" ? null : `${count(k.dropped_bans)} packets of banned sources, ${count(k.dropped_strangers)} of strangers over their limit`],
      ["Limit for strangers", k.strangers ? count(k.strangers) + " packets/s" : null],
      ["Repairs", k.backend === "none" ? null : `${count(k.repairs)}, made anew ${count(k.resyncs)} times, ${count(k.failures)} failures`],
      ["Last made anew", k.last_sync ? time(k.last_sync) : null]));
    const j = s.journal;
    put(journal, j ? rows(["File", h("span", { class: "mono" }, j.path)], ["State", j.ok ? state(true, "in order") : state(false, oneLine(j.error))],
      ["Size", count(Math.round(j.bytes / 1024)) + " KiB"], ["Counted", count(j.events) + " messages since the start"], ["Not counted", j.lost_events ? count(j.lost_events) + " messages: too many at once" : null],
      ["Not yet written", j.waiting ? count(j.waiting) : null], ["A damaged one", j.set_aside ? oneLine(j.set_aside) : null]) : h("p", { class: "none" }, "There is none (report.enabled)."));
    const d = s.store;
    put(store, rows(["File", h("span", { class: "mono" }, d.path)], ["State", d.ok ? state(true, "in order") : state(false, oneLine(d.error))],
      ["Not yet written", d.pending ? count(d.pending) : null], ["Errors", d.errors ? count(d.errors) : null], ["A damaged one", d.set_aside ? oneLine(d.set_aside) : null]));
  });
}

function tftp(t) {
  return [h("div", null, `on: ${t.listen.join(", ")}, files of ${oneLine(t.server)}`),
    h("div", { class: "note" }, `${count(t.open)} transfers open, ${count(t.limited)} sources limited; since the start ${count(t.started)} begun, ${count(t.completed)} done, ${count(t.failed)} failed, ${count(t.cut)} cut`)];
}

// figures lists whatever numbers there are by their names in the API.
function figures(x) {
  return ["on", h("div", { class: "note" }, Object.entries(x).filter(([, v]) => typeof v === "number").map(([name, v]) => `${name.replaceAll("_", " ")} ${count(v)}`).join(", "))];
}
