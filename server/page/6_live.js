/* The live view: /metrics once a second while it is looked at, as curves of the last minute. */

const WINDOW = 60, SPAN = 10; /* samples kept; samples over which percentiles are taken */
const live = {samples: [], timer: null};

/* {name: [{labels, value}]} */
function parseMetrics(text) {
  const all = {};
  for (const line of text.split("\n")) {
    const m = line.match(/^([a-z_]+)(?:\{(.*)\})? (\S+)$/);
    if (!m) continue;
    const labels = {};
    for (const [, k, v] of (m[2] || "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) labels[k] = v.replace(/\\(["\\])/g, "$1");
    (all[m[1]] = all[m[1]] || []).push({labels, value: m[3] === "+Inf" ? Infinity : +m[3]});
  }
  return all;
}

const sum = (list, f) => (list || []).filter(f).reduce((a, s) => a + s.value, 0);

/* What one model has done so far. */
function totals(all, model) {
  const of = s => s.labels.model === model;
  const buckets = {};
  for (const s of (all.onnxd_request_duration_seconds_bucket || []).filter(of)) {
    const le = s.labels.le === "+Inf" ? Infinity : +s.labels.le;
    buckets[le] = (buckets[le] || 0) + s.value;
  }
  return {done: sum(all.onnxd_requests_total, s => of(s) && s.labels.outcome === "ok"), bad: sum(all.onnxd_requests_total, s => of(s) && s.labels.outcome !== "ok"),
    rows: sum(all.onnxd_inference_rows_total, of), runs: sum(all.onnxd_inference_runs_total, of), queue: sum(all.onnxd_queue_depth, of),
    running: sum(all.onnxd_running, of), memory: sum(all.onnxd_model_memory_bytes, of), buckets};
}

/* The p-th part of what came into the buckets between two samples, in milliseconds, straight between the bounds; null: nothing came. */
function percentile(from, to, p) {
  const bounds = Object.keys(to.buckets).map(Number).sort((a, b) => a - b);
  const count = le => to.buckets[le] - (from.buckets[le] || 0);
  const all = bounds.length ? count(bounds[bounds.length - 1]) : 0;
  if (!(all > 0)) return null;
  let below = 0, low = 0;
  for (const le of bounds) {
    const here = count(le);
    if (here >= p * all) return 1000 * (le === Infinity ? low : low + (le - low) * (p * all - below) / Math.max(here - below, 1));
    below = here;
    low = le;
  }
  return 1000 * low;
}

async function sample() {
  try {
    const text = await (await ask("metrics")).text();
    const all = parseMetrics(text), at = performance.now(), models = {};
    for (const name of new Set((all.onnxd_model_state || []).map(s => s.labels.model))) models[name] = totals(all, name);
    live.samples.push({at, models});
    if (live.samples.length > WINDOW + 1) live.samples.shift();
    showLive();
  } catch (e) {
    fail(e);
  }
}

function follow(on) {
  clearInterval(live.timer);
  live.timer = null;
  if (!on) return;
  sample();
  live.timer = setInterval(sample, 1000);
}

function chart(title, unit, lines) {
  const values = lines.flatMap(l => l.values).filter(v => v !== null), most = Math.max(1e-9, ...values) * 1.1;
  const svg = el("svg", {viewBox: `0 0 ${WINDOW} 100`, preserveAspectRatio: "none", "aria-hidden": "true"}, el("line", {x1: 0, x2: WINDOW, y1: 99.5, y2: 99.5}), el("line", {x1: 0, x2: WINDOW, y1: 50, y2: 50}));
  const said = [];
  lines.forEach((l, i) => {
    let run = [];
    const flush = () => { if (run.length > 1) svg.append(el("polyline", {points: run.join(" "), stroke: colour(i * 3)})); run = []; };
    l.values.forEach((v, k) => {
      if (v === null) flush();
      else run.push(`${WINDOW - l.values.length + 1 + k},${100 - 100 * v / most}`);
    });
    flush();
    const last = l.values[l.values.length - 1];
    said.push(`${l.name ? l.name + " " : ""}${last === null || last === undefined ? "–" : digits(last)}`);
  });
  const legend = lines.length > 1 ? el("p", {class: "legend"}, ...lines.map((l, i) => el("span", {}, el("i", {colour: colour(i * 3)}), said[i] + " " + unit))) : null;
  return el("div", {class: "card chart", role: "img", "aria-label": `${title}: ${said.join(", ")} ${unit}`},
    el("h2", {}, title, el("output", {}, lines.length > 1 ? "" : `${said[0]} ${unit}`)), svg, legend);
}

function series(model, f) {
  return live.samples.slice(1).map((s, i) => {
    const now = s.models[model], before = live.samples[i].models[model];
    return now && before ? f(now, before, (s.at - live.samples[i].at) / 1000, i) : null;
  });
}
const windowed = (model, p) => series(model, (now, _, __, i) => {
  const from = live.samples[Math.max(0, i + 1 - SPAN)].models[model];
  return from ? percentile(from, now, p) : null;
});

function showLive() {
  const m = state.model;
  $("charts").replaceChildren(
    chart("Requests answered", "/s", [{values: series(m, (a, b, s) => (a.done - b.done) / s)}]),
    chart("Time of a request", "ms", [["median", 0.5], ["95 %", 0.95], ["99 %", 0.99]].map(([name, p]) => ({name, values: windowed(m, p)}))),
    chart("Rows in a run", "", [{values: series(m, (a, b) => a.runs > b.runs ? (a.rows - b.rows) / (a.runs - b.runs) : null)}]),
    chart("Waiting and running", "", [{name: "waiting", values: series(m, a => a.queue)}, {name: "running", values: series(m, a => a.running)}]));
  const last = live.samples[live.samples.length - 1], first = live.samples[Math.max(0, live.samples.length - SPAN)];
  const rows = Object.entries(last.models).sort().map(([name, t]) => {
    const from = first.models[name] || t, s = (last.at - first.at) / 1000;
    return [name, {n: s ? digits((t.done - from.done) / s, 1) : "–"}, {n: digits(percentile(from, t, 0.5))}, {n: digits(percentile(from, t, 0.99))},
      {n: t.runs > from.runs ? digits((t.rows - from.rows) / (t.runs - from.runs), 1) : "–"}, {n: t.queue}, {n: t.done}, {n: t.bad}, {n: digits(t.memory / 1048576, 1)}];
  });
  $("all-models").replaceChildren(...table(["model", {n: "a second"}, {n: "median ms"}, {n: "99 % ms"}, {n: "rows a run"}, {n: "waiting"}, {n: "answered"}, {n: "not"}, {n: "MiB"}], rows));
}
