// What passes and what is stopped at this moment.
import { get, query } from "./api.js";
import { bars, key } from "./chart.js";
import { h, oneLine, put, setText, Table, visible } from "./dom.js";
import { absolute, clock, count, duration, grouped, groups, plural, rate, time } from "./format.js";
import { addressOf } from "./stream.js";
import { mirrorOff } from "./system.js";

const stopGroups = groups.filter(([name]) => name !== "passed");
const spans = [["15m", "15 minutes", 900], ["1h", "1 hour", 3600], ["24h", "24 hours", 86400]];
const marks = { pass: "✓", drop: "✕", reject: "↩", hold: "…" };
const wordsOf = { pass: "passed", drop: "dropped", reject: "rejected", hold: "held" };

export const sourceLink = (address) => h("a", { class: "mono", href: "#source/" + encodeURIComponent(address) }, address);

// figure is one number with its unit.
function figure(title, unit) {
  const value = h("span", { class: "value" }, "–"), note = h("span", { class: "note" });
  return { element: h("div", { class: "figure" }, h("span", { class: "title" }, title), h("span", null, value, " ", h("span", { class: "unit" }, unit)), note), value, note };
}

export function liveView(app, main) {
  const f = {
    passed: figure("Passed", "messages/s"), stopped: figure("Stopped", "messages/s"), bans: figure("Bans in force", ""),
    good: figure("Good standing", "sources"), pbx: figure("PBXes up", ""), kernel: figure("Kernel mirror", ""),
  };
  const passedChart = h("div", { class: "chart" }), stoppedChart = h("div", { class: "chart" });
  let span = spans[0];
  const spanButtons = spans.map((s) => h("button", { type: "button", "aria-pressed": String(s === span), onclick: () => {
    span = s;
    for (const [i, b] of spanButtons.entries()) b.setAttribute("aria-pressed", String(spans[i] === span));
    drawCharts();
  } }, s[1]));

  let paused = false;
  const only = h("select", { "aria-label": "Which verdicts" }, [["", "All verdicts"], ["stopped", "Stopped only"], ["pass", "Passed only"]].map(([value, title]) => h("option", { value }, title)));
  const filter = h("input", { type: "search", "aria-label": "Filter verdicts", placeholder: "Filter: address, account, reason…", spellcheck: "false", autocomplete: "off" });
  const pause = h("button", { type: "button", "aria-pressed": "false", onclick: () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    setText(pause, paused ? "Go on" : "Pause");
  } }, "Pause");
  const feedNote = h("span", { class: "note" });
  const feed = new Table({
    caption: "Verdicts, the latest first", empty: "Nothing has come yet. Messages appear here as they arrive.",
    key: (e) => e.id,
    columns: [
      { title: "Time", class: "mono", cell: (e) => h("time", { datetime: e.time, title: absolute(e.time) }, clock(e.time)) },
      { title: "Verdict", cell: (e) => h("span", { class: "verdict " + (e.verdict in marks ? e.verdict : "drop") }, h("span", { "aria-hidden": "true" }, (marks[e.verdict] ?? "?") + " "), wordsOf[e.verdict] ?? oneLine(e.verdict)) },
      { title: "Reason", cell: (e) => oneLine(e.reason) },
      { title: "Source", cell: (e) => [e.source ? sourceLink(addressOf(e.source)) : "", e.direction === "from-pbx" ? " " : null, e.direction === "from-pbx" ? h("span", { class: "tag", title: "It came from a PBX." }, "PBX") : null, e.client ? [" → ", sourceLink(addressOf(e.client))] : null] },
      { title: "Message", class: "mono", cell: (e) => [e.protocol && e.protocol !== "sip" ? e.protocol.toUpperCase() + " " : "", oneLine(e.method), e.status ? " " + e.status : "", h("span", { class: "note" }, " " + (e.transport ?? ""))] },
      { title: "Account", class: "mono clip", cell: (e) => h("bdi", { title: oneLine(e.account) }, oneLine(e.account)) },
      { title: "Detail", class: "clip wide", cell: (e) => h("bdi", { title: oneLine(e.detail) }, oneLine(e.detail)) },
    ],
  });
  const topColumns = (title, cell) => [
    { title, class: "mono clip", cell },
    { title: "Stopped", class: "num", cell: (r) => count(r.stopped) },
    { title: "Passed", class: "num", cell: (r) => count(r.passed) },
  ];
  const topVersion = (r) => r.key + " " + r.stopped + " " + r.passed;
  const topSources = new Table({ caption: "Top sources of the last five minutes", empty: "No messages in the last five minutes.", key: (r) => r.key, version: topVersion,
    columns: topColumns("Source", (r) => (r.key === "others" ? "others" : sourceLink(r.key))) });
  const topAccounts = new Table({ caption: "Top accounts of the last five minutes", empty: "No messages with an account in the last five minutes.", key: (r) => r.key, version: topVersion,
    columns: topColumns("Account", (r) => h("bdi", { title: oneLine(r.key) }, oneLine(r.key))) });
  const notices = h("ol", { class: "notices" });
  const topNote = h("p", { class: "note" });

  put(main, h("h1", { class: "unseen" }, "Live"),
    h("div", { class: "figures" }, Object.values(f).map((x) => x.element)),
    h("section", { class: "panel", "aria-labelledby": "chart-title" },
      h("div", { class: "row between" }, h("h2", { id: "chart-title" }, "Messages per second"), h("div", { class: "segments", role: "group", "aria-label": "Time shown" }, spanButtons)),
      h("div", { class: "two" }, h("div", null, h("h3", null, "Passed"), passedChart), h("div", null, h("h3", null, "Stopped, by why"), stoppedChart, key(stopGroups)))),
    h("div", { class: "main-side" },
      h("section", { class: "panel", "aria-labelledby": "feed-title" },
        h("div", { class: "row between" }, h("h2", { id: "feed-title" }, "Verdicts"), feedNote),
        h("div", { class: "row" }, only, filter, pause), h("div", { class: "feed" }, feed.element)),
      h("div", { class: "side" },
        h("section", { class: "panel", "aria-labelledby": "top-title" }, h("h2", { id: "top-title" }, "Top sources"), topSources.element),
        h("section", { class: "panel", "aria-labelledby": "acc-title" }, h("h2", { id: "acc-title" }, "Top accounts"), topAccounts.element, topNote),
        h("section", { class: "panel", "aria-labelledby": "notice-title" }, h("h2", { id: "notice-title" }, "Notices"), notices))));

  function totals(s) {
    const sums = grouped(s.reasons);
    return { passed: sums.passed, stopped: stopGroups.reduce((n, [name]) => n + sums[name], 0) };
  }

  function showStatus(s) {
    const { passed, stopped } = totals(s);
    const [from, to] = app.rates;
    if (to && from.status.started === to.status.started) {
      const seconds = (to.at - from.at) / 1000, was = totals(from.status), is = totals(to.status);
      setText(f.passed.value, rate((is.passed - was.passed) / seconds));
      setText(f.stopped.value, rate((is.stopped - was.stopped) / seconds));
    }
    setText(f.passed.note, count(passed) + " since the start");
    setText(f.stopped.note, count(stopped) + " since the start");
    const b = s.bans;
    setText(f.bans.value, count(b.dynamic + b.permanent + b.manual));
    setText(f.bans.note, `${count(b.dynamic)} for a time, ${count(b.permanent)} for ever, ${count(b.manual)} by command`);
    setText(f.good.value, count(b.good_sources));
    setText(f.good.note, plural(b.quarantines, "account", "accounts") + " in quarantine");
    const up = s.pbx.filter((p) => p.up).length;
    setText(f.pbx.value, `${up} of ${s.pbx.length}`);
    f.pbx.element.dataset.state = up === s.pbx.length ? "good" : "bad";
    setText(f.pbx.note, up === s.pbx.length ? "all answer" : s.pbx.filter((p) => !p.up).map((p) => p.address).join(", ") + " down");
    const k = s.kernel, off = mirrorOff(k);
    setText(f.kernel.value, k.backend === "none" ? "off" : k.backend);
    f.kernel.element.dataset.state = !off && k.reason ? "bad" : "good";
    setText(f.kernel.note, off ? "sipward alone drops" : k.reason ? "does not follow" : count(k.dropped_bans) + " packets dropped there");
    showNotices(s);
  }

  let shownNotices = "";
  function showNotices(s) {
    const latest = s.notices.slice(-8).reverse(), id = latest.map((n) => n.seq).join();
    if (id === shownNotices && notices.childNodes.length > 0) return;
    shownNotices = id;
    put(notices, latest.length === 0 ? h("li", { class: "none" }, "No ban, quarantine or limit so far.") : latest.map((n) => h("li", null,
      h("span", { class: "tag" }, n.kind), " ", n.source ? sourceLink(addressOf(n.source)) : h("bdi", { class: "mono" }, oneLine(n.account)), " ",
      h("span", { class: "note" }, time(n.time)), h("p", null, h("bdi", null, visible(n.text))),
      n.commands?.length ? h("details", null, h("summary", null, "Commands"), h("pre", null, n.commands.join("\n"))) : null)));
  }

  async function drawCharts() {
    let s;
    try {
      s = await get(query("/ui/series", { span: span[0] }));
    } catch {
      return; // the status says what is wrong
    }
    const to = Date.now(), from = to - span[2] * 1000, step = s.step_seconds * 1000;
    const points = s.points.map((p) => {
      const values = grouped(p.counts);
      for (const name in values) values[name] /= s.step_seconds;
      return { end: p.end, values };
    });
    const common = { points, from, to, step, unit: "messages/s" };
    bars(passedChart, { ...common, names: [groups[0]], label: "Messages passed" });
    bars(stoppedChart, { ...common, names: stopGroups, label: "Messages stopped" });
  }

  let drawn = -1;
  function drawFeed() {
    const st = app.stream, now = Date.now();
    topSources.update(st.sources.top(8, now));
    topAccounts.update(st.accounts.top(8, now));
    setText(topNote, `Of the messages that this page was shown in the last ${duration(Math.min(300, (now - st.since) / 1000))}. Reports counts all.`);
    setText(feedNote, (st.state === "good" ? "" : st.state === "bad" ? "sipward refuses the stream at present. " : "Connecting to the stream… ") + plural(st.seen, "message", "messages") + " seen" + (st.lost ? `, ${count(st.lost)} more not shown: too many at once` : ""));
    if (paused || (drawn === st.seen + only.value + filter.value)) return;
    drawn = st.seen + only.value + filter.value;
    const text = filter.value.trim().toLowerCase();
    const fits = (e) => (only.value === "" || (e.verdict === "pass") === (only.value === "pass")) &&
      (text === "" || [e.source, e.client, e.account, e.reason, e.method, e.detail].some((t) => String(t ?? "").toLowerCase().includes(text)));
    feed.update(st.events.filter(fits).slice(0, 100));
  }

  const unwatch = app.watch(showStatus);
  drawCharts();
  drawFeed();
  const timers = [setInterval(drawCharts, 5000), setInterval(drawFeed, 500)];
  return () => {
    unwatch();
    timers.forEach(clearInterval);
  };
}
