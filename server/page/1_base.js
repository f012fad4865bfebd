"use strict";
/* What all parts of the page share: elements, requests, errors, numbers, colours. */
const $ = id => document.getElementById(id);
const base = location.pathname.replace(/\/+$/, "") + "/";
const state = {model: null, about: null, card: null, picture: null, answer: null, chosen: -1, token: sessionStorage.getItem("onnxd-token") || ""};

function el(tag, attributes = {}, ...children) {
  const svg = ["svg", "polyline", "line", "rect"].includes(tag);
  const e = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [k, v] of Object.entries(attributes)) {
    if (k === "width%") e.style.width = v + "%";
    else if (k === "colour") e.style.background = v;
    else if (k === "stroke") e.style.stroke = v;
    else if (k.startsWith("on")) e.addEventListener(k.slice(2), v);
    else if (v !== null && v !== undefined) e.setAttribute(k, v);
  }
  e.append(...children.filter(c => c !== null && c !== undefined));
  return e;
}

function fail(error) {
  $("error").hidden = !error;
  $("error").textContent = error ? (error.message || String(error)) : "";
}

/* The answer to a request; its error is the server's own words. */
async function ask(path, options = {}) {
  const headers = {...options.headers};
  if (state.token) headers.Authorization = "Bearer " + state.token;
  let reply;
  try {
    reply = await fetch(base + path, {...options, headers});
  } catch (e) {
    if (e.name === "AbortError") throw e;
    throw new Error("The server cannot be reached.");
  }
  if (reply.ok) return reply;
  if (reply.status === 401) $("token-form").hidden = false;
  const text = await reply.text();
  let words = text;
  try { words = JSON.parse(text).error || text; } catch { /* it is no JSON */ }
  const error = new Error(`${words} (${reply.status})`);
  error.status = reply.status;
  throw error;
}
const askJson = async (path, options) => (await ask(path, options)).json();

const modelPath = (rest = "") => `v2/models/${encodeURIComponent(state.model)}${rest}`;

function digits(x, n = 3) {
  if (x === null || x === undefined || Number.isNaN(x)) return "–";
  if (!Number.isFinite(x)) return String(x);
  if (Number.isInteger(x)) return String(x);
  const a = Math.abs(x);
  return x.toFixed(a >= 100 ? 0 : a >= 10 ? Math.min(1, n) : a >= 1 ? Math.min(2, n) : n);
}
function large(x) {
  for (const [limit, unit] of [[1e9, " billion"], [1e6, " million"], [1e3, " thousand"]]) if (x >= limit) return digits(x / limit) + unit;
  return String(x);
}
/* Scores of some models are no shares, but logits or heights. */
const percent = x => x === null ? "–" : x < 0 || x > 1.005 ? digits(x, 2) : (100 * x).toFixed(x < 0.1 ? 1 : 0) + " %";

/* Well apart from one another for neighbouring indices. */
const hue = i => (i * 137.508 + 150) % 360;
const colour = (i, alpha = 1) => `hsl(${hue(i)} 78% 45% / ${alpha})`;
function rgb(i) {
  const h = hue(i) / 60, c = 0.78 * 0.9, x = c * (1 - Math.abs(h % 2 - 1)), m = 0.45 - c / 2;
  const p = [[c, x, 0], [x, c, 0], [0, c, x], [0, x, c], [x, 0, c], [c, 0, x]][Math.floor(h) % 6];
  return p.map(v => Math.round(255 * (v + m)));
}
/* What can be read on colour(i): black where it is bright (WCAG 2's relative luminance: above 0.18 black contrasts more). */
function inkOn(i) {
  const [r, g, b] = rgb(i).map(v => (v / 255) ** 2.2);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.18 ? "#000" : "#fff";
}
const nameOf = hit => hit.label === null || hit.label === undefined ? `class ${hit.index}` : hit.label;
