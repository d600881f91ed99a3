// The frame of the page: login, the sections, the theme, and the status that all sections share.
import { del, get, logIn, onLoggedOut, post } from "./api.js";
import { bansView } from "./bans.js";
import { h, put, say, setText, toast, visible } from "./dom.js";
import { plural, tick } from "./format.js";
import { listsView } from "./lists.js";
import { liveView } from "./live.js";
import { reportsView } from "./reports.js";
import { sourceView } from "./source.js";
import { openStream } from "./stream.js";
import { mirrorOff, systemView } from "./system.js";

const sections = [
  ["live", "Live", liveView],
  ["bans", "Bans", bansView],
  ["source", "Source", sourceView],
  ["lists", "Lists", listsView],
  ["reports", "Reports", reportsView],
  ["system", "System", systemView],
];

const statusEvery = 2000;
const root = document.getElementById("root");
let stop = () => {};

// theme: the button goes round through system, light and dark.
const themes = ["auto", "light", "dark"];
const themeNames = { auto: "◐ Auto", light: "☀ Light", dark: "☾ Dark" };

function themeButton() {
  const now = () => document.documentElement.dataset.theme;
  const button = h("button", { type: "button", class: "quiet", title: "The theme: as the system's, light, or dark", onclick: () => {
    const next = themes[(themes.indexOf(now()) + 1) % themes.length];
    document.documentElement.dataset.theme = next;
    try {
      localStorage.setItem("sipward-theme", next);
    } catch {
      // It then lasts as long as the page.
    }
    setText(button, themeNames[next]);
  } }, themeNames[now()]);
  return button;
}

// showLogin asks for a token.
function showLogin(why) {
  stop();
  document.title = "Log in · sipward";
  const problem = h("p", { class: "problem", role: "alert" }, why ?? null);
  const token = h("input", { id: "token", name: "token", type: "password", autocomplete: "current-password", required: true, spellcheck: "false", "aria-describedby": "token-help" });
  const go = h("button", { type: "submit", class: "primary" }, "Log in");
  put(root, h("main", { id: "main", class: "login", tabindex: "-1" },
    h("form", { class: "panel", onsubmit: async (ev) => {
      ev.preventDefault();
      go.disabled = true;
      try {
        start(await logIn(token.value.trim()));
      } catch (e) {
        setText(problem, e.message);
        go.disabled = false;
        token.select();
      }
    } },
    h("h1", { class: "mark" }, "sipward"),
    h("p", null, "The firewall in front of your PBX."),
    h("label", { for: "token" }, "Token"), token,
    h("p", { id: "token-help", class: "help" }, "On the machine that sipward runs on, ", h("code", null, "sipward token new"), " makes one. A read token sees everything; a write token may also ban and unban."),
    problem, h("div", { class: "row between" }, go, themeButton()))));
  token.focus();
}

// start shows the sections. Everything that they share is in app: the latest status and who wants to
// know of a new one.
function start(session) {
  stop();
  const watchers = new Set();
  const app = {
    status: null,
    rates: [], // two statuses with when they came, some time apart: what rates are made of
    watch(f) {
      watchers.add(f);
      if (app.status) f(app.status);
      return () => watchers.delete(f);
    },
    bansChanged: new Set(),
    stream: openStream(() => {
      poll();
      for (const f of app.bansChanged) f();
    }),
    may: session.role === "write",
  };
  root.dataset.role = session.role;
  const alarm = h("div", { class: "alarms", role: "alert" });
  const connection = h("span", { class: "pill", "data-state": "wait" }, "Connecting…");
  const nav = h("nav", { "aria-label": "Sections" }, sections.map(([name, title]) => h("a", { href: "#" + name }, title)));
  const main = h("main", { id: "main", tabindex: "-1" });
  const find = h("input", { type: "search", "aria-label": "Explain an address", placeholder: "Explain an address…", autocomplete: "off", spellcheck: "false" });
  put(root,
    h("header", null,
      h("a", { class: "mark", href: "#live" }, "sipward"), connection,
      h("form", { role: "search", class: "find", onsubmit: (ev) => {
        ev.preventDefault();
        if (find.value.trim()) location.hash = "source/" + encodeURIComponent(find.value.trim());
      } }, find),
      h("div", { class: "tools" }, h("span", { class: "note who", title: session.name }, app.may ? "May change" : "Read only"), themeButton(), h("button", { type: "button", class: "quiet", onclick: async () => {
        await del("/v1/session").catch(() => {});
        showLogin();
      } }, "Log out"))),
    nav, h("div", { class: "body" }, alarm, main));

  const showAlarms = alarms(alarm);
  let ended = false, timer = 0, polling = null;
  function poll() {
    polling ??= get("/v1/status").then((s) => {
      app.status = s;
      const at = performance.now(), last = app.rates.at(-1);
      if (!last || at - last.at > 0.75 * statusEvery) app.rates = [...app.rates.slice(-1), { status: s, at }];
      if (!ended) for (const f of watchers) f(s);
      connection.dataset.state = "good";
      setText(connection, "Live");
      connection.title = `sipward ${s.version}, ${s.mode} mode`;
    }, (e) => {
      connection.dataset.state = "bad";
      setText(connection, e.status === 0 ? "No connection" : "Error");
      connection.title = e.message;
      if (!ended) showAlarms(app.status, e.message);
    }).finally(() => {
      polling = null;
      clearTimeout(timer);
      if (!ended) timer = setTimeout(poll, document.hidden ? 5 * statusEvery : statusEvery);
    });
    return polling;
  }

  let leave = () => {};
  function route() {
    const [name, argument = ""] = location.hash.slice(1).split("/");
    const section = sections.find(([n]) => n === name) ?? sections[0];
    leave();
    for (const a of nav.children) {
      if (a.getAttribute("href") === "#" + section[0]) a.setAttribute("aria-current", "page");
      else a.removeAttribute("aria-current");
    }
    document.title = section[1] + " · sipward";
    put(main);
    let what = "";
    try {
      what = decodeURIComponent(argument);
    } catch {
      what = argument;
    }
    leave = section[2](app, main, what) ?? (() => {});
  }
  const moved = () => {
    route();
    main.focus({ preventScroll: true });
    window.scrollTo(0, 0);
  };
  window.addEventListener("hashchange", moved);
  const clockTimer = setInterval(tick, 1000);
  const unwatch = [app.watch((s) => showAlarms(s)), app.watch(news())];
  stop = () => {
    ended = true;
    leave();
    clearTimeout(timer);
    clearInterval(clockTimer);
    unwatch.forEach((f) => f());
    app.stream.close();
    window.removeEventListener("hashchange", moved);
    document.querySelectorAll("dialog").forEach((d) => d.close());
    put(document.getElementById("toasts"));
    stop = () => {};
  };
  route();
  poll();
}

// alarms shows what somebody should look at now: of a status, and why there is none that is newer.
function alarms(element) {
  let shown = "";
  return (s, lost) => {
    const all = lost ? [`What is shown is old: ${lost}`] : [];
    if (s) all.push(...troubles(s));
    if (all.join("\n") === shown) return;
    shown = all.join("\n");
    put(element, all.map((text) => h("p", { class: "alarm" }, text)));
  };
}

function troubles(s) {
  const all = [];
  const down = s.pbx.filter((p) => !p.up);
  if (down.length > 0) all.push(down.length === s.pbx.length ? "No PBX is up: requests are answered 503." : `${plural(down.length, "PBX is", "PBXes are")} down: ${down.map((p) => p.address).join(", ")}.`);
  for (const f of s.breaker.filter((f) => f.open)) all.push(`Automatic bans (${f.name}) have stopped: more than ${f.limit} within a minute look like a mistake. Known attackers stay out.`);
  if (!s.store.ok) all.push(`The database cannot be used (${visible(s.store.error)}); ${plural(s.store.pending, "change waits", "changes wait")} to be written. Traffic goes on.`);
  if (s.journal && !s.journal.ok) all.push(`The journal cannot be used (${visible(s.journal.error)}); ${plural(s.journal.waiting, "entry waits", "entries wait")} to be written. Traffic goes on.`);
  if (!mirrorOff(s.kernel) && s.kernel.reason) all.push(`The kernel does not follow: ${visible(s.kernel.reason)}. sipward itself still drops what is banned.`);
  for (const c of s.certificates.filter((c) => c.warning)) all.push(`The certificate ${visible(c.source)} (${visible(c.names.join(", "))}) ${visible(c.warning)}.`);
  for (const a of s.known_places) all.push(`${visible(a)} is under attack from many sources, and is let in only from where it has registered before.`);
  return all;
}

// news tells of notices that come while the page is open.
function news() {
  let last = null;
  return (s) => {
    const newest = Math.max(0, ...s.notices.map((n) => n.seq));
    if (last !== null) {
      const fresh = s.notices.filter((n) => n.seq > last && !n.quiet);
      const n = fresh.at(-1);
      if (n) {
        const about = n.source || n.account ? `${visible(n.source || n.account)} (${n.reason})` : visible(n.text);
        const text = `${n.kind}: ${about}` + (fresh.length > 1 ? `, and ${plural(fresh.length - 1, "more notice", "more notices")}` : "");
        toast(text, "news");
        say(text);
      }
    }
    last = newest;
  };
}

onLoggedOut(() => showLogin("Your session has ended. Log in again."));

// A link that logs in carries its code behind the #, where no server sees it; it leaves the address
// bar at once.
async function begin() {
  const link = location.hash.match(/^#login=([A-Z0-9]+)$/);
  let why;
  if (link) {
    history.replaceState(null, "", "/");
    try {
      start(await logIn((await post("/ui/link", { code: link[1] })).token));
      return;
    } catch (e) {
      why = e.message;
    }
  }
  try {
    start(await get("/v1/session"));
  } catch (e) {
    showLogin(e.status === 401 ? why : e.message);
  }
}

begin();
