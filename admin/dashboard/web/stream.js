// The stream of verdicts as they fall. It belongs to the page, not to a section, so that figures
// over the last minutes do not start again when the section is left.

const keep = 500; // verdicts shown at most
const retry = 10000; // after sipward has refused a stream: there may be too many
const window5 = 5 * 60 * 1000;
const capKeys = 2000; // sources and accounts counted at most

// Tops counts by key within the last five minutes, in steps of ten seconds. When strangers have
// filled it, new keys are counted together as "others".
class Tops {
  constructor() {
    this.steps = [];
  }

  add(key, stopped, now) {
    const at = Math.floor(now / 10000);
    let step = this.steps.at(-1);
    if (!step || step.at !== at) {
      step = { at, counts: new Map() };
      this.steps.push(step);
      while (this.steps[0].at < at - window5 / 10000) this.steps.shift();
    }
    if (!step.counts.has(key) && step.counts.size >= capKeys) key = "others";
    const c = step.counts.get(key) ?? { passed: 0, stopped: 0 };
    c[stopped ? "stopped" : "passed"]++;
    step.counts.set(key, c);
  }

  top(n, now) {
    const oldest = Math.floor(now / 10000) - window5 / 10000;
    const sums = new Map();
    for (const step of this.steps) {
      if (step.at < oldest) continue;
      for (const [key, c] of step.counts) {
        const s = sums.get(key) ?? { key, passed: 0, stopped: 0 };
        s.passed += c.passed;
        s.stopped += c.stopped;
        sums.set(key, s);
      }
    }
    return [...sums.values()].sort((a, b) => b.stopped - a.stopped || b.passed - a.passed).slice(0, n);
  }
}

// addressOf takes the port off.
export function addressOf(source) {
  const v6 = source.match(/^\[(.*)\]:\d+$/);
  return v6 ? v6[1] : source.replace(/:\d+$/, "");
}

// openStream begins to read. changed is called when bans have changed.
export function openStream(changed) {
  const stream = { events: [], seen: 0, lost: 0, state: "wait", sources: new Tops(), accounts: new Tops(), since: Date.now() };
  let id = 0, source, again = 0;
  function open() {
    source = new EventSource("/v1/events");
    source.onopen = () => (stream.state = "good");
    source.onerror = () => {
      stream.state = "wait";
      if (source.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
      stream.state = "bad";
      again = setTimeout(open, retry);
    };
    source.onmessage = (m) => take(JSON.parse(m.data));
    source.addEventListener("lost", (m) => (stream.lost += JSON.parse(m.data).messages));
    for (const name of ["ban", "resync"]) source.addEventListener(name, changed);
  }
  function take(ev) {
    ev.id = ++id;
    stream.seen++;
    stream.events.unshift(ev);
    if (stream.events.length > keep) stream.events.length = keep;
    const stopped = ev.verdict !== "pass", now = Date.now();
    if (ev.source && ev.direction !== "from-pbx") stream.sources.add(addressOf(ev.source), stopped, now);
    if (ev.account) stream.accounts.add(ev.account, stopped, now);
  }
  stream.close = () => {
    clearTimeout(again);
    source.close();
  };
  open();
  return stream;
}
