/* Choosing: models, pictures, views. */

async function listModels() {
  const index = await askJson("v2/repository/index", {method: "POST"});
  const names = [...new Set(index.filter(m => m.state === "READY").map(m => m.name))];
  $("model").replaceChildren(...names.map(n => el("option", {value: n}, n)));
  const broken = index.filter(m => m.state === "UNAVAILABLE" && m.reason);
  if (broken.length) fail(new Error(broken.map(m => `${m.name}: ${m.reason}`).join("; ")));
  if (!names.length) throw new Error("No model is ready. Put one into the folder that onnxd serves.");
  const wanted = decodeURIComponent(location.hash.slice(1));
  $("model").value = names.includes(wanted) ? wanted : names[0];
  await pickModel();
}

async function pickModel() {
  const model = state.model = $("model").value;
  history.replaceState(null, "", "#" + encodeURIComponent(model));
  state.answer = null;
  clearOverlay();
  $("list").replaceChildren();
  $("explain-bar").hidden = true;
  $("timing").hidden = true;
  try {
    const [about, reply] = await Promise.all([askJson(modelPath()), ask(modelPath("/card"))]);
    const card = await reply.json();
    if (model !== state.model) return;
    Object.assign(state, {about, card, cardSource: reply.headers.get("X-Card-Source")});
  } catch (e) {
    fail(e);
    return;
  }
  const pictures = state.card.task !== "none";
  $("picture-side").hidden = !pictures;
  $("tensor-side").hidden = pictures;
  if (!pictures) $("tensor-in").value = madeUpBody(state.about);
  $("tensor-out").textContent = "Nothing sent yet.";
  setSliders();
  showCode();
  if (!$("view-model").hidden) showModel();
  if (live.samples.length) showLive();
  if (pictures && state.picture) await predict();
}

async function takePicture(blob, name) {
  if (!blob) return;
  const url = URL.createObjectURL(blob), photo = $("photo");
  photo.src = url;
  try {
    await photo.decode();
  } catch {
    URL.revokeObjectURL(url);
    fail(new Error(`“${name || "this"}” is no picture that can be shown.`));
    return;
  }
  if (state.picture) URL.revokeObjectURL(state.picture.url);
  /* other formats than the server's become PNG; so do pictures that a camera has turned */
  if (!["image/jpeg", "image/png", "image/webp"].includes(blob.type)) blob = await asPng(photo);
  state.picture = {blob, name: name || "picture.png", url, width: photo.naturalWidth, height: photo.naturalHeight};
  state.answer = null;
  photo.alt = "The picture: " + state.picture.name;
  $("name").textContent = `${state.picture.name}, ${photo.naturalWidth} × ${photo.naturalHeight}`;
  $("empty").hidden = true;
  $("figure").hidden = false;
  $("drop").classList.add("full");
  clearOverlay();
  $("list").replaceChildren();
  showCode();
  fail(null);
  await predict();
}

function asPng(image) {
  const c = el("canvas");
  c.width = image.naturalWidth;
  c.height = image.naturalHeight;
  c.getContext("2d", {willReadFrequently: true}).drawImage(image, 0, 0);
  return new Promise(done => c.toBlob(done, "image/png"));
}

async function pasteButton() {
  try {
    for (const item of await navigator.clipboard.read()) {
      const type = item.types.find(t => t.startsWith("image/"));
      if (type) return takePicture(await item.getType(type), "pasted." + type.slice(6));
    }
    fail(new Error("There is no picture in the clipboard."));
  } catch {
    fail(new Error("The browser does not let this page read the clipboard: press Ctrl+V instead."));
  }
}

function showView(name, focus) {
  for (const v of ["try", "model", "live"]) {
    const on = v === name;
    $("view-" + v).hidden = !on;
    $("tab-" + v).setAttribute("aria-selected", on);
    $("tab-" + v).tabIndex = on ? 0 : -1;
    if (on && focus) $("tab-" + v).focus();
  }
  if (name === "model" && state.about) showModel();
  follow(name === "live" && !document.hidden);
}

for (const v of ["try", "model", "live"]) $("tab-" + v).addEventListener("click", () => showView(v));
document.querySelector("[role=tablist]").addEventListener("keydown", e => {
  const views = ["try", "model", "live"], at = views.findIndex(v => $("tab-" + v) === document.activeElement);
  const step = {ArrowRight: 1, ArrowLeft: -1}[e.key];
  if (at >= 0 && step) showView(views[(at + step + 3) % 3], true);
});
document.addEventListener("visibilitychange", () => follow(!$("view-live").hidden && !document.hidden));

$("model").addEventListener("change", pickModel);
for (const id of ["file", "camera"])
  $(id).addEventListener("change", e => { const f = e.target.files[0]; takePicture(f, f && f.name); e.target.value = ""; });
$("paste").addEventListener("click", pasteButton);
document.addEventListener("paste", e => {
  const f = [...e.clipboardData.files].find(x => x.type.startsWith("image/"));
  if (f) takePicture(f, f.name);
});
for (const type of ["dragover", "dragleave", "drop"])
  document.addEventListener(type, e => {
    e.preventDefault();
    $("drop").classList.toggle("over", type === "dragover");
    if (type === "drop" && e.dataTransfer.files[0]) takePicture(e.dataTransfer.files[0], e.dataTransfer.files[0].name);
  });

let later = null;
function askLater() {
  clearTimeout(later);
  later = setTimeout(predict, 150);
}
for (const id of ["score", "iou", "top"])
  $(id).addEventListener("input", () => {
    showSliders();
    showCode();
    if (id === "iou" || (needsAsking() && id === "score")) askLater();
    else if (state.card.task === "detect" && id === "score" && +$(id).value < LOW_SCORE) askLater();
    else showAnswer();
  });
for (const id of ["crops", "soft", "agnostic"]) $(id).addEventListener("change", () => { showCode(); predict(); });
$("format").addEventListener("change", showCode);
$("explain").addEventListener("click", () => explaining() ? endExplain() : explain());
$("languages").addEventListener("change", showCode);
$("tensor-in").addEventListener("input", showCode);
$("tensor-send").addEventListener("click", sendTensors);
$("profile").addEventListener("click", profile);
$("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText($("code").textContent);
    $("copy").textContent = "Copied";
  } catch {
    getSelection().selectAllChildren($("code"));
    $("copy").textContent = "Press Ctrl+C";
  }
  setTimeout(() => { $("copy").textContent = "Copy"; }, 1500);
});
$("token-form").addEventListener("submit", e => {
  e.preventDefault();
  state.token = $("token").value;
  sessionStorage.setItem("onnxd-token", state.token);
  $("token-form").hidden = true;
  start();
});

async function start() {
  fail(null);
  try {
    const server = await askJson("v2");
    $("version").textContent = server.version;
    await listModels();
  } catch (e) {
    fail(e);
  }
}
/* a camera's own button only where there is one to speak of */
$("camera-label").hidden = !matchMedia("(pointer: coarse)").matches;
start();
