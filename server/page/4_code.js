/* The lines that repeat the request from a shell or a program, and the form for models that take tensors. */

const quote = text => "'" + text.replace(/'/g, "'\\''") + "'";
const origin = () => location.origin + base;

function pictureCode(language) {
  const q = queryOf(true), url = origin() + modelPath("/predict") + (q ? "?" + q : "");
  const name = state.picture && state.picture.name || "photo.jpg", type = state.picture && state.picture.blob.type || "image/jpeg";
  if (language === "curl")
    return `curl -H ${quote("Content-Type: " + type)}${state.token ? ' -H "Authorization: Bearer $TOKEN"' : ""} \\\n  --data-binary ${quote("@" + name)} \\\n  ${quote(url)}`;
  if (language === "python")
    return `import json, urllib.request\n\nwith open(${JSON.stringify(name)}, "rb") as f:\n    request = urllib.request.Request(\n        ${JSON.stringify(url)},\n        data=f.read(), headers={"Content-Type": ${JSON.stringify(type)}${state.token ? ', "Authorization": "Bearer " + token' : ""}})\nprint(json.load(urllib.request.urlopen(request)))`;
  return `const file = document.querySelector("input[type=file]").files[0];\nconst reply = await fetch(\n  ${JSON.stringify(url)},\n  {method: "POST", body: file, headers: {"Content-Type": file.type${state.token ? ', Authorization: "Bearer " + token' : ""}}});\nconsole.log(await reply.json());`;
}

function tensorCode(language) {
  const url = origin() + modelPath("/infer");
  let body = $("tensor-in").value;
  try { body = JSON.stringify(JSON.parse(body)); } catch { /* shown as it was typed */ }
  if (language === "curl")
    return `curl -H 'Content-Type: application/json'${state.token ? ' -H "Authorization: Bearer $TOKEN"' : ""} \\\n  --data ${quote(body)} \\\n  ${quote(url)}`;
  if (language === "python")
    return `import json, urllib.request\n\nbody = json.loads(${JSON.stringify(body)})\nrequest = urllib.request.Request(\n    ${JSON.stringify(url)},\n    data=json.dumps(body).encode(), headers={"Content-Type": "application/json"})\nprint(json.load(urllib.request.urlopen(request)))`;
  return `const reply = await fetch(${JSON.stringify(url)}, {\n  method: "POST", headers: {"Content-Type": "application/json"},\n  body: JSON.stringify(${body})});\nconsole.log(await reply.json());`;
}

function showCode() {
  if (!state.model) return;
  const language = document.querySelector("[name=language]:checked").value;
  $("code").textContent = state.card && state.card.task !== "none" ? pictureCode(language) : tensorCode(language);
}

/* A body with zeros for every input; free extents are 1. */
function madeUpBody(about) {
  const MOST = 4096;
  const inputs = about.inputs.map(i => {
    const shape = i.shape.map(d => d < 0 ? 1 : d), n = shape.reduce((a, b) => a * b, 1);
    const one = i.datatype === "BYTES" ? "" : i.datatype === "BOOL" ? false : 0;
    return {name: i.name, shape, datatype: i.datatype, data: n <= MOST ? Array(n).fill(one) : []};
  });
  return JSON.stringify({inputs}, null, 1).replace(/\[[^[\]{}]*\]/g, list => list.replace(/\s+/g, " "));
}

async function sendTensors() {
  const begin = performance.now();
  try {
    JSON.parse($("tensor-in").value);
    const reply = await ask(modelPath("/infer"), {method: "POST", body: $("tensor-in").value, headers: {"Content-Type": "application/json"}});
    const answer = await reply.json();
    fail(null);
    $("tensor-out").textContent = `${digits(performance.now() - begin)} ms\n` + JSON.stringify(answer, null, 1).replace(/\[[^[\]{}]*\]/g, list => list.replace(/\s+/g, " "));
  } catch (e) {
    $("tensor-out").textContent = "No result.";
    fail(e instanceof SyntaxError ? new Error("The request body is no JSON: " + e.message) : e);
  }
  showCode();
}
