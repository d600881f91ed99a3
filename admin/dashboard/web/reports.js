// The report builder: a question to the journal, its answer, and the same as a file.
import { mailReport } from "./actions.js";
import { get } from "./api.js";
import { explainLink } from "./bans.js";
import { bars, key } from "./chart.js";
import { h, oneLine, put, setText, Table, visible } from "./dom.js";
import { absolute, count, plural } from "./format.js";

const spans = [["1h", "the last hour"], ["24h", "the last 24 hours"], ["7d", "the last 7 days"], ["30d", "the last 30 days"], ["", "from … to …"]];
const dimensions = ["source", "account", "reason", "guard", "method", "action", "protocol", "direction", "node", "hour", "day"];
const filters = [["source", "Source or prefix", "192.0.2.0/24"], ["account", "Account", "1001"], ["reason", "Reason", "register"], ["guard", "Guard", "scanner"], ["method", "Method", "REGISTER"], ["action", "Action", "drop"], ["protocol", "Protocol", "sip"], ["node", "Node", ""]];
const series = [["passed", "Passed"], ["flood", "Rejected"], ["banned", "Dropped"]];
const buckets = { minute: 60, hour: 3600, day: 86400 };

export function reportsView(app, main) {
  const select = (name, options, value) => h("select", { name }, options.map(([v, title]) => h("option", { value: v, selected: v === value }, title)));
  const field = (label, element) => h("label", null, label, element);
  const last = select("last", spans, "24h");
  const from = h("input", { name: "from", type: "datetime-local" }), to = h("input", { name: "to", type: "datetime-local" });
  const range = [field("From", from), field("To", to)];
  const by = select("by", [["", "nothing: acts one by one"], ...dimensions.map((d) => [d, d])], "source");
  const then = select("then", [["", "nothing more"], ...dimensions.map((d) => [d, d])], "");
  const thenField = field("and then by", then);
  const top = h("input", { name: "top", type: "number", min: 1, max: 10000, value: 20, required: true });
  const inputs = filters.map(([name, label, example]) => [name, label, h("input", { name, placeholder: example ? "e.g. " + example : null, maxlength: 200, autocomplete: "off", spellcheck: "false" })]);
  const problem = h("p", { class: "problem", role: "alert" });
  const go = h("button", { type: "submit", class: "primary" }, "Show");
  const files = h("div", { class: "row" });
  const result = h("div", { "aria-live": "polite" });
  const arrange = () => {
    for (const r of range) r.hidden = last.value !== "";
    thenField.hidden = by.value === "";
  };
  last.addEventListener("change", arrange);
  by.addEventListener("change", arrange);
  arrange();

  function parameters() {
    const p = new URLSearchParams();
    if (last.value) p.set("last", last.value);
    else {
      if (from.value) p.set("from", new Date(from.value).toISOString());
      if (to.value) p.set("to", new Date(to.value).toISOString());
    }
    if (by.value === "") p.set("acts", "true");
    else p.set("by", [by.value, then.value === by.value ? "" : then.value].filter(Boolean).join(","));
    p.set("top", top.value);
    for (const [name, , input] of inputs) if (input.value.trim()) p.set(name, input.value.trim());
    return p;
  }

  // Who may send it by mail; without an answer nobody, since the report itself is what matters.
  const mailers = get("/v1/notify").then((s) => s.channels.filter((c) => c.type === "smtp"), () => []);

  let ended = false, asked = 0;
  async function run(ev) {
    ev?.preventDefault();
    const mine = ++asked, p = parameters();
    setText(problem, "");
    go.disabled = true;
    try {
      const r = await get("/v1/report?" + p), channels = await mailers;
      if (ended || mine !== asked) return;
      show(r);
      put(files, h("span", { class: "note" }, "The same as"), ["csv", "json", "html"].map((format) => {
        const q = new URLSearchParams(p);
        q.set("format", format);
        return h("a", { class: "button", href: "/v1/report?" + q, download: "sipward-report." + format }, format.toUpperCase());
      }), channels.length > 0 ? h("button", { type: "button", class: "write", onclick: () => mailReport(p, channels) }, "Mail…") : null);
    } catch (e) {
      if (!ended && mine === asked) {
        setText(problem, e.message);
        put(result);
        put(files);
      }
    } finally {
      go.disabled = false;
    }
  }

  function show(r) {
    const chart = h("div", { class: "chart" }), t = r.total, listed = by.value === "";
    put(result, h("section", { class: "panel", "aria-label": "Report" },
      h("h2", null, `${absolute(r.from)} to ${absolute(r.to)}`),
      r.trouble ? h("p", { class: "alarm" }, "The journal cannot be read: " + visible(r.trouble)) : null,
      r.lost ? h("p", { class: "note" }, count(r.lost) + " messages more were not counted, because there were too many at once.") : null,
      listed ? acts(r.acts_listed ?? []) : [
        h("p", null, `${plural(t.messages, "message", "messages")}: ${count(t.passed)} passed, ${count(t.rejected)} rejected, ${count(t.dropped)} dropped. ${plural(t.bans, "ban", "bans")} began.`),
        h("h3", null, "Messages per " + r.bucket), chart, key(series), groups(r)]));
    if (listed) return;
    const step = buckets[r.bucket] * 1000;
    bars(chart, {
      points: (r.series ?? []).map((p) => ({ end: new Date(Date.parse(p.time) + step).toISOString(), values: { passed: p.passed, flood: p.rejected, banned: p.dropped } })),
      names: series, from: Date.parse(r.from), to: Date.parse(r.to), step, label: "Messages", unit: "messages", height: 150,
    });
  }

  put(main, h("h1", null, "Reports"),
    h("form", { class: "panel", onsubmit: run },
      h("div", { class: "fields" }, field("Range", last), range, field("Group by", by), thenField, field("Rows at most", top)),
      h("details", null, h("summary", null, "Filters"),
        h("p", { class: "note" }, "Several values are separated by commas; any of them fits."),
        h("div", { class: "fields" }, inputs.map(([, label, input]) => field(label, input)))),
      problem, h("div", { class: "row between" }, go, files)), result);
  run();
  return () => {
    ended = true;
  };
}

const isTime = (d) => d === "hour" || d === "day";

function groups(r) {
  const cell = (d, i) => (g) => {
    const v = g.key[i];
    if (v === "") return h("span", { class: "note" }, "none");
    if (d === "source") return explainLink(v);
    return h("bdi", { title: isTime(d) ? null : oneLine(v) }, isTime(d) ? absolute(v) : oneLine(v));
  };
  const table = new Table({
    caption: "Report", empty: "Nothing fits.", key: (g) => JSON.stringify(g.key),
    columns: [
      ...r.by.map((d, i) => ({ title: d[0].toUpperCase() + d.slice(1), class: "mono clip", cell: cell(d, i) })),
      ...["messages", "passed", "rejected", "dropped", "bans"].map((n) => ({ title: n[0].toUpperCase() + n.slice(1), class: "num", cell: (g) => count(g[n]) })),
      { title: "First", class: "mono", cell: (g) => absolute(g.first).slice(0, 19) },
      { title: "Last", class: "mono", cell: (g) => absolute(g.last).slice(0, 19) },
    ],
  });
  table.update(r.groups);
  return [table.element, r.other_groups ? h("p", { class: "note" }, `${plural(r.other_groups, "group", "groups")} more have ${plural(r.others.messages, "message", "messages")} together.`) : null];
}

function acts(list) {
  const table = new Table({
    caption: "Acts, the latest first", empty: "Nothing fits.", key: (a) => JSON.stringify(a),
    columns: [
      { title: "Time", class: "mono", cell: (a) => absolute(a.time) },
      { title: "Act", cell: (a) => h("span", { class: "tag" }, oneLine(a.action)) },
      { title: "Source", cell: (a) => (a.source ? explainLink(a.source) : "") },
      { title: "Account", class: "mono clip", cell: (a) => h("bdi", null, oneLine(a.account)) },
      { title: "Reason", cell: (a) => oneLine(a.reason) },
      { title: "Until", class: "mono", cell: (a) => (a.until ? absolute(a.until) : "") },
      { title: "By", cell: (a) => h("bdi", null, oneLine(a.by)) },
      { title: "Text", class: "clip wide", cell: (a) => h("bdi", { title: oneLine(a.text) }, oneLine(a.text), a.failed ? " Failed: " + oneLine(a.failed) : "") },
    ],
  });
  table.update(list);
  return table.element;
}
