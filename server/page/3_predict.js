/* A picture's way to the server and its answer's onto the page. */

/* Asked once with this low a threshold; the sliders then choose from what came. */
const LOW_SCORE = 0.05, MOST_CLASSES = 20, SOFT = 0.5; /* the paper's sigma */
const stages = [["queue", "waiting"], ["decode", "decode"], ["preprocess", "resize"], ["compute", "network"], ["postprocess", "read out"], ["rest", "on the way"]];

const needsAsking = () => state.card && state.card.task === "segment";
const hasScores = () => state.card && ["classify", "detect"].includes(state.card.task);

/* `shown`: with the values of the sliders, for the lines of code; else as the page asks. */
function queryOf(shown) {
  const q = new URLSearchParams(), task = state.card ? state.card.task : "none";
  if (task === "classify") q.set("top_k", shown ? $("top").value : MOST_CLASSES);
  if (task === "classify" && shown && +$("score").value > 0) q.set("score_threshold", $("score").value);
  if (task === "detect" || (task === "segment" && !$("score").parentElement.hidden)) q.set("score_threshold", shown || task === "segment" ? $("score").value : Math.min(LOW_SCORE, +$("score").value));
  if (task === "detect" && !$("iou").parentElement.hidden) q.set("iou_threshold", $("iou").value);
  const said = defaults();
  if ($("crops").value !== said.crops) q.set("crops", $("crops").value);
  if ($("soft").checked !== said.soft) q.set("soft_nms", $("soft").checked ? SOFT : 0);
  if ($("agnostic").checked !== said.agnostic) q.set("class_agnostic", $("agnostic").checked ? 1 : 0);
  if (shown && $("format").value !== said.format) q.set("format", $("format").value);
  return q.toString();
}

/* What the card says of the choices below the sliders. */
function defaults() {
  const card = state.card || {};
  return {crops: String(card.crops || 1), soft: (card.parameters || {}).soft_nms > 0, agnostic: !!card.class_agnostic, format: card.task === "embed" ? "floats" : "png"};
}

function setChoices() {
  const card = state.card || {}, boxes = !$("iou").parentElement.hidden, said = defaults();
  $("crops-label").hidden = !(card.task === "classify" && (card.preprocess || {}).fit === "crop");
  $("soft-label").hidden = $("agnostic-label").hidden = !boxes;
  $("format-label").hidden = !["image", "embed"].includes(card.task);
  $("format").options[0].disabled = card.task === "embed"; /* a vector is no picture */
  $("choices").hidden = [...$("choices").children].every(c => c.hidden);
  $("crops").value = said.crops;
  $("soft").checked = said.soft;
  $("agnostic").checked = said.agnostic;
  $("format").value = said.format;
}

function setSliders() {
  const card = state.card || {}, task = card.task;
  const limited = task === "segment" && ["sigmoid", "probabilities", "maskformer-instance", "maskformer-panoptic"].includes(card.decoder);
  $("score").parentElement.hidden = !(hasScores() || limited);
  $("iou").parentElement.hidden = task !== "detect" || !(card.iou_threshold < 1);
  $("top").parentElement.hidden = task !== "classify";
  $("score").value = card.score_threshold ?? (task === "classify" ? 0 : 0.5);
  $("iou").value = card.iou_threshold ?? 0.5;
  $("top").value = Math.min(card.top_k ?? 5, MOST_CLASSES);
  setChoices();
  showSliders();
}
function showSliders() {
  for (const id of ["score", "iou", "top"]) $(id + "-out").textContent = id === "top" ? $(id).value : (+$(id).value).toFixed(2);
}

let running = null;
async function predict() {
  if (!state.picture || !state.card || state.card.task === "none") return;
  if (running) running.abort();
  const mine = running = new AbortController(), begin = performance.now();
  $("status").textContent = "Asking …";
  $("figure").setAttribute("aria-busy", "true");
  try {
    const reply = await ask(`${modelPath("/predict")}?${queryOf(false)}`, {
      method: "POST", body: state.picture.blob, signal: mine.signal, headers: {"Content-Type": state.picture.blob.type || "application/octet-stream"}});
    const answer = await reply.json();
    if (running !== mine) return;
    state.answer = answer;
    state.chosen = -1;
    fail(null);
    showTimes(reply.headers.get("Server-Timing"), performance.now() - begin);
    showAnswer();
  } catch (e) {
    if (e.name === "AbortError") return;
    state.answer = null;
    clearOverlay();
    $("list").replaceChildren();
    $("status").textContent = "No result.";
    fail(e);
  } finally {
    if (running === mine) running = null;
    $("figure").removeAttribute("aria-busy");
  }
}

function showTimes(header, total) {
  const times = {};
  for (const part of (header || "").split(",")) {
    const m = part.match(/^\s*([\w-]+);dur=([\d.]+)/);
    if (m) times[m[1]] = +m[2];
  }
  const known = Object.values(times).reduce((a, b) => a + b, 0);
  times.rest = Math.max(0, total - known);
  const parts = stages.filter(([k]) => times[k] !== undefined);
  const tint = (k, i) => k === "rest" ? "var(--dim)" : colour(i);
  $("timing").hidden = false;
  $("timing-bar").replaceChildren(...parts.map(([k], i) => el("div", {"width%": 100 * times[k] / Math.max(total, known), colour: tint(k, i)})));
  const words = parts.map(([k, word]) => `${word} ${digits(times[k], 2)} ms`);
  $("timing-bar").setAttribute("aria-label", `${digits(total)} milliseconds in all: ${words.join(", ")}`);
  $("timing-text").replaceChildren(...words.map((w, i) => el("span", {}, el("i", {colour: tint(parts[i][0], i)}), w)), el("span", {}, `all ${digits(total)} ms`));
}

function clearOverlay() {
  const c = $("overlay");
  c.getContext("2d", {willReadFrequently: true}).clearRect(0, 0, c.width, c.height);
  c.setAttribute("aria-label", "");
  endExplain();
}

/* ---- the results */

function visible(list) {
  const least = +$("score").value;
  const some = list.map((hit, at) => ({...hit, at})).filter(h => h.score === null || h.score >= least);
  return state.card.task === "classify" ? some.slice(0, +$("top").value) : some;
}

function hitButton(hit, value, share, extra, detail) {
  return el("button", {type: "button", class: "hit", "aria-current": hit.at === state.chosen ? "true" : null, onclick: () => choose(hit.at), "data-at": hit.at},
    el("i", {colour: colour(hit.index ?? 0)}), el("b", {}, nameOf(hit)), el("span", {}, value),
    detail ? el("em", {}, detail) : null, share === null ? null : el("div", {class: "track"}, el("u", {"width%": 100 * share, colour: extra})));
}

function choose(at) {
  state.chosen = state.chosen === at ? -1 : at;
  showAnswer();
  if (explaining()) explain();
  const b = $("list").querySelector(`[data-at="${at}"]`);
  if (b) b.focus();
}

/* What a detection's chained models said, in a line. */
function chained(hit) {
  if (!hit.then) return null;
  return Object.entries(hit.then).map(([model, r]) => r.classes ? `${model}: ${r.classes.slice(0, 2).map(c => `${nameOf(c)} ${percent(c.score)}`).join(", ")}`
    : r.embedding ? `${model}: ${r.embedding.length} numbers` : r.detections ? `${model}: ${r.detections.map(nameOf).join(", ") || "nothing"}` : model).join(" · ");
}

function showAnswer() {
  const a = state.answer;
  if (!a) return;
  const canvas = $("overlay"), g = canvas.getContext("2d", {willReadFrequently: true}), {width, height} = state.picture;
  canvas.width = width;
  canvas.height = height;
  let rows = [], words = "";
  if (a.classes) {
    const hits = visible(a.classes);
    rows = hits.map(h => hitButton(h, percent(h.score), Math.max(0, Math.min(1, h.score || 0)), colour(h.index)));
    words = hits.length ? `${nameOf(hits[0])}, ${percent(hits[0].score)}` : "No class above this score.";
  } else if (a.heads) {
    rows = Object.entries(a.heads).flatMap(([name, list]) => [el("h4", {}, name),
      ...visible(list).map(h => hitButton({...h, at: `${name} ${h.at}`}, percent(h.score), Math.max(0, Math.min(1, h.score || 0)), colour(h.index)))]);
    words = Object.entries(a.heads).filter(([, list]) => list.length).map(([name, list]) => `${name}: ${nameOf(list[0])}`).join(", ");
  } else if (a.detections) {
    const hits = visible(a.detections), chosen = hits.find(h => h.at === state.chosen);
    drawHits(g, hits, chosen, width, height);
    rows = hits.map(h => hitButton(h, percent(h.score), null, null, chained(h)));
    const counts = {};
    for (const h of hits) counts[nameOf(h)] = (counts[nameOf(h)] || 0) + 1;
    words = hits.length ? Object.entries(counts).map(([n, c]) => `${c} × ${n}`).join(", ") : "Nothing above this score.";
  } else if (a.segmentation && a.segmentation.segments) { /* each its own colour, also of one class */
    const parts = a.segmentation.segments.map((s, at) => ({...s, at, label: nameOf(s), index: s.id}));
    drawMasks(g, width, height, parts.filter(p => p.mask).map(p => ({mask: p.mask, index: p.id, strong: p.at === state.chosen})).reverse());
    rows = parts.map(p => hitButton(p, percent(p.score), p.area / (width * height), colour(p.id)));
    words = parts.length ? parts.map(nameOf).slice(0, 6).join(", ") + (parts.length > 6 ? " …" : "") : "Nothing above this score.";
  } else if (a.segmentation) {
    const parts = a.segmentation.classes.map((c, at) => ({...c, at}));
    drawMasks(g, width, height, parts.filter(p => p.mask && (state.chosen < 0 ? p.index !== 0 : p.at === state.chosen)).map(p => ({mask: p.mask, index: p.index})));
    rows = parts.map(p => hitButton(p, percent(p.share), p.share, colour(p.index)));
    words = parts.map(p => `${nameOf(p)} ${percent(p.share)}`).slice(0, 4).join(", ");
  } else if (a.keypoints) {
    const points = a.keypoints.map((p, at) => ({...p, at}));
    for (const p of points) drawPoint(g, ...p.point, (p.at === state.chosen ? 8 : 5) * pixelsShown(width), p.index);
    rows = points.map(p => hitButton(p, percent(p.score), null));
    words = `${points.length} keypoints`;
  } else if (a.image) {
    const shown = new Image();
    shown.alt = "The picture that the model made";
    shown.src = "data:image/png;base64," + a.image.png;
    rows = [shown];
    words = `A picture of ${a.image.size[1]} × ${a.image.size[0]} pixels`;
  } else if (a.embedding) {
    rows = [el("pre", {tabindex: 0}, JSON.stringify(a.embedding.map(x => +x.toFixed(5))))];
    words = `A vector of ${a.embedding.length} numbers`;
  } else {
    rows = [el("pre", {tabindex: 0}, JSON.stringify(a, null, 1))];
  }
  $("list").replaceChildren(...rows);
  $("status").textContent = words;
  canvas.setAttribute("aria-label", "Result over the picture: " + words);
  $("explain-bar").hidden = !whyQuery(a);
  showCode();
}

/* ---- why */

const explaining = () => $("explain").getAttribute("aria-pressed") === "true";
function endExplain() {
  $("explain").setAttribute("aria-pressed", "false");
  $("explain-text").textContent = "";
  showHeat(null);
}
/* The query that asks why of the chosen result, else of the first: a class, also of a head, a box or a segment, the pixels of a class. */
function whyQuery(a) {
  const parts = a.segmentation && a.segmentation.classes, numbered = a.detections || (a.segmentation && a.segmentation.segments);
  const heads = Object.entries(a.heads || {}).flatMap(([head, list]) => list.map((c, at) => ({...c, head, at: `${head} ${at}`})));
  const list = a.classes || numbered || parts || heads;
  const hit = a.heads ? heads.find(c => c.at === state.chosen) || heads[0] : list[state.chosen] || (parts && parts.find(c => c.index)) || (!parts && list[0]);
  if (!hit) return null;
  const q = new URLSearchParams(queryOf(false));
  q.set("explain", 1);
  if (numbered) q.set("box", list.indexOf(hit));
  else q.set("class", hit.index);
  if (hit.head !== undefined) q.set("head", hit.head);
  if (a.classes || a.heads) q.set("top_k", 1);
  return q.toString();
}
async function explain() {
  const why = state.answer && whyQuery(state.answer);
  if (!why) return;
  $("explain").setAttribute("aria-pressed", "true");
  $("explain-text").textContent = "Looking …";
  try {
    const picture = state.picture, q = `?${why}`;
    const answer = await askJson(modelPath("/predict") + q, {method: "POST", body: picture.blob, headers: {"Content-Type": picture.blob.type || "application/octet-stream"}});
    if (picture !== state.picture || !explaining()) return;
    await showHeat(answer.explanation.png);
    const e = answer.explanation;
    $("explain-text").textContent = `What speaks for “${nameOf(e)}”, ` + (e.method === "cam" ? "by class activation." : `by ${e.method}, ${e.passes} runs.`);
  } catch (e) {
    endExplain();
    fail(e);
  }
}
