// A chart of stacked bars over time, drawn as SVG.
import { h, put } from "./dom.js";
import { absolute, clock, rate } from "./format.js";

const left = 44, right = 8, top = 8, bottom = 20;

// nice is the next round figure above.
function nice(n) {
  if (n <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(n));
  return [1, 2, 5, 10].find((m) => m * power >= n) * power;
}

// label5 is a time of day, or a date when there are several days.
const label5 = (t, range) => (range > 36 * 3600 * 1000 ? absolute(t).slice(5, 10) : clock(t).slice(0, 5));

// bars draws points {end, values: {name: figure}} into an element. names says which values, from the
// bottom up; each has a class of the same name.
export function bars(element, { points, names, from, to, step, height = 130, label, unit }) {
  const width = Math.max(280, element.clientWidth); // of the element as it is: the text keeps its size
  const sums = points.map((p) => names.reduce((sum, [n]) => sum + (p.values[n] ?? 0), 0));
  const most = nice(Math.max(0, ...sums));
  const plotW = width - left - right, plotH = height - top - bottom;
  const x = (t) => left + ((t - from) / (to - from)) * plotW;
  const y = (v) => top + plotH - (v / most) * plotH;
  const grid = [0, 0.5, 1].map((f) => h("g", null,
    h("line", { class: "grid", x1: left, x2: width - right, y1: y(f * most), y2: y(f * most) }),
    h("text", { class: "axis", x: left - 6, y: y(f * most) + 4, "text-anchor": "end" }, rate(f * most))));
  const times = [0, 0.25, 0.5, 0.75, 1].map((f) => h("text", {
    class: "axis", x: left + f * plotW, y: height - 4, "text-anchor": f === 0 ? "start" : f === 1 ? "end" : "middle",
  }, label5(from + f * (to - from), to - from)));
  const w = Math.max(0.6, (step / (to - from)) * plotW - 0.5);
  const drawn = points.map((p) => {
    const end = Math.min(to, Date.parse(p.end));
    let base = 0;
    const parts = [];
    for (const [name] of names) {
      const v = p.values[name] ?? 0;
      if (v <= 0) continue;
      parts.push(h("rect", { class: "fill-" + name, x: x(end) - w, width: w, y: y(base + v), height: Math.max(0.75, y(base) - y(base + v)) }));
      base += v;
    }
    if (parts.length === 0) return null;
    const shown = names.filter(([n]) => p.values[n] > 0).map(([n, title]) => `${title}: ${rate(p.values[n])} ${unit}`);
    return h("g", null, h("title", null, [absolute(p.end), ...shown].join("\n")), parts);
  });
  const peak = Math.max(0, ...sums);
  put(element, h("svg", {
    viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `${label}, from ${absolute(from)} to ${absolute(to)}: at most ${rate(peak)} ${unit}, at the end ${rate(sums.at(-1) ?? 0)} ${unit}.`,
  }, grid, times, drawn.filter(Boolean)));
}

// key explains the colours.
export function key(names) {
  return h("ul", { class: "key" }, names.map(([name, title]) => h("li", null, h("span", { class: "swatch back-" + name, "aria-hidden": "true" }), title)));
}
