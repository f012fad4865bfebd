/* What the model is: ports, graph, card, and the time of each operator. */

function table(head, rows) {
  const cell = (tag, x) => el(tag, {class: typeof x === "object" && x ? "n" : null}, typeof x === "object" && x ? x.n : x ?? "");
  return [el("thead", {}, el("tr", {}, ...head.map(x => cell("th", x)))), el("tbody", {}, ...rows.map(r => el("tr", {}, ...r.map(x => cell("td", x)))))];
}
const meter = (name, share, text) => el("div", {class: "meter"}, el("b", {}, name), el("div", {}, el("u", {"width%": 100 * share})), el("span", {}, text));

function showPorts() {
  const shape = p => p.shape.map(d => d < 0 ? "any" : d).join(" × ") || "one number";
  const rows = kind => state.about[kind].map(p => [kind === "inputs" ? "in" : "out", p.name, p.datatype, shape(p)]);
  $("ports").replaceChildren(el("table", {}, ...table(["", "name", "type", "extents"], [...rows("inputs"), ...rows("outputs")])));
}

async function showModel() {
  const model = state.model;
  showPorts();
  $("card").textContent = state.card ? JSON.stringify(state.card, (k, v) => k === "labels" && Array.isArray(v) && v.length > 12 ? [...v.slice(0, 10), `… ${v.length} in all`] : v, 1) : "";
  $("card-source").textContent = state.cardSource ? "from " + state.cardSource : "";
  for (const id of ["figures", "operators", "profile-operators", "profile-nodes"]) $(id).replaceChildren();
  $("profile-more").hidden = true;
  $("profile-text").textContent = "Runs the model a few times on made-up input.";
  try {
    const g = await askJson(modelPath("/graph"));
    if (model !== state.model) return;
    const figures = [["Made by", g.producer || "unknown"], ["Operator set", g.opset], ["Parameters", large(g.parameters)], ["Nodes", g.nodes],
      ["Work", g.gmacs === undefined ? "not known" : digits(g.gmacs) + " billion multiply-adds"],
      ["Memory", digits(g.packed_mb) + " MiB of packed weights" + (g.planned_mb === undefined ? "" : `, ${digits(g.planned_mb)} MiB for a run`)]];
    $("figures").replaceChildren(...figures.flatMap(([k, v]) => [el("dt", {}, k), el("dd", {}, String(v))]));
    const ops = Object.entries(g.operators), most = Math.max(1, ...ops.map(o => o[1]));
    $("operators").replaceChildren(...ops.slice(0, 16).map(([k, n]) => meter(k, n / most, String(n))));
  } catch (e) {
    fail(e);
  }
}

async function profile() {
  const model = state.model;
  $("profile").disabled = true;
  $("profile-text").textContent = "Running …";
  try {
    const p = await askJson(modelPath("/profile"));
    if (model !== state.model) return;
    $("profile-text").textContent = `${digits(p.least_ms)} ms for the quickest of ${p.runs} runs` + (p.gmacs ? `, ${digits(p.gflops)} GFLOP/s.` : ".");
    $("profile-operators").replaceChildren(...p.operators.map(o => meter(`${o.operator} × ${o.nodes}`, o.share, `${percent(o.share)}  ${digits(o.us / 1000)} ms`)));
    $("profile-nodes").replaceChildren(el("table", {}, ...table([{n: "µs"}, {n: "share"}, {n: "GFLOP/s"}, "operator", "how", "node"],
      p.nodes.map(r => [{n: digits(r.us, 1)}, {n: percent(r.share)}, {n: r.gflops ? digits(r.gflops, 1) : ""}, r.operator, r.how, r.name]))));
    $("profile-more").hidden = false;
    fail(null);
  } catch (e) {
    $("profile-text").textContent = "Not measured.";
    fail(e);
  } finally {
    $("profile").disabled = false;
  }
}
