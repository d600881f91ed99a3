// Figures, times and words for people. Every figure has a unit, and every relative time has the
// absolute one on hover.
import { h, setText } from "./dom.js";

const whole = new Intl.NumberFormat("en");
const some = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

export const count = (n) => whole.format(n ?? 0);
export const rate = (n) => (n < 100 ? some.format(n) : whole.format(Math.round(n)));
export const plural = (n, one, many) => count(n) + " " + (n === 1 ? one : many);

// absolute is a time to the second in the zone of the browser, with that zone.
export function absolute(t) {
  const d = new Date(t);
  if (Number.isNaN(d.getTime())) return "";
  const p = (n) => String(n).padStart(2, "0");
  const zone = -d.getTimezoneOffset();
  const z = zone === 0 ? "UTC" : "UTC" + (zone < 0 ? "−" : "+") + p(Math.floor(Math.abs(zone) / 60)) + ":" + p(Math.abs(zone) % 60);
  return `${d.getFullYear()}-${p(d.getMonth() + 1)}-${p(d.getDate())} ${p(d.getHours())}:${p(d.getMinutes())}:${p(d.getSeconds())} ${z}`;
}

export const clock = (t) => absolute(t).slice(11, 19);

// duration writes seconds with the two largest units.
export function duration(s) {
  s = Math.max(0, Math.round(s));
  const parts = [];
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]]) {
    const n = Math.floor(s / size);
    s -= n * size;
    if (n > 0 || (unit === "s" && parts.length === 0)) parts.push(`${n} ${unit}`);
    else if (parts.length > 0) break;
    if (parts.length === 2) break;
  }
  return parts.join(" ");
}

const words = {
  ago: (t, now) => duration((now - t) / 1000) + " ago",
  left: (t, now) => (t > now ? duration((t - now) / 1000) + " left" : "ending"),
  for: (t, now) => duration((now - t) / 1000),
};

// time makes an element that counts by itself: "ago", "left" or "for".
export function time(t, kind = "ago") {
  const e = h("time", { datetime: t, title: absolute(t), "data-kind": kind });
  tickOne(e, Date.now());
  return e;
}

function tickOne(e, now) {
  setText(e, words[e.dataset.kind](Date.parse(e.dateTime), now));
}

// tick has every time on the page count on.
export function tick() {
  const now = Date.now();
  for (const e of document.querySelectorAll("time[data-kind]")) tickOne(e, now);
}

// Groups of reasons, in the order in which the chart stacks them.
export const groups = [
  ["passed", "Passed"],
  ["banned", "Banned or denied"],
  ["flood", "Flood and overload"],
  ["guards", "Other guards"],
  ["malformed", "Malformed"],
  ["other", "Other"],
];

const groupOf = {
  pass: "passed", "allow-list": "passed", pbx: "passed", trunk: "passed", keepalive: "passed", "to-us": "passed", "own-ack": "passed",
  ban: "banned", "deny-list": "banned",
  flood: "flood", overload: "flood", "connection-cap": "flood", "queue-full": "flood", "invite-limit": "flood",
  register: "guards", scanner: "guards", honey: "guards", enumeration: "guards", quarantine: "guards", "known-places": "guards",
  "unproven-nonce": "guards", "guesses-in-flight": "guards", "digest-leak": "guards", uniform: "guards",
  malformed: "malformed", "not-sip": "malformed", "slow-message": "malformed", "bad-extension": "malformed", "bad-scheme": "malformed",
};

// group puts a reason into one of the groups.
export function group(reason) {
  return groupOf[reason] ?? (/^(tftp|dns)-/.test(reason) ? "guards" : "other");
}

// grouped adds up counts by group.
export function grouped(counts) {
  const sums = Object.fromEntries(groups.map(([name]) => [name, 0]));
  for (const [reason, n] of Object.entries(counts ?? {})) sums[group(reason)] += n;
  return sums;
}
