/* What is drawn over the picture. All coordinates are the picture's pixels. */

/* COCO's compressed run lengths as runs: numbers of 5 bits a character, from the third on as differences to the one before the last. */
function rleRuns(text) {
  const runs = [];
  for (let at = 0; at < text.length;) {
    let x = 0, shift = 0, more = true;
    while (more) {
      const c = text.charCodeAt(at++) - 48;
      x |= (c & 31) << shift;
      shift += 5;
      more = (c & 32) !== 0 && at < text.length;
      if (!more && c & 16 && shift < 32) x |= -1 << shift;
    }
    if (runs.length > 2) x += runs[runs.length - 2];
    runs.push(x);
  }
  return runs;
}

/* Paint a mask {size: [h, w], counts}, whose runs go down columns, into pixels of the picture's size. */
function paintMask(pixels, width, height, mask, [r, g, b], alpha) {
  const [h, w] = mask.size;
  let at = 0, on = false;
  for (const run of rleRuns(mask.counts)) {
    if (on)
      for (let i = at; i < at + run && i < w * h; i++) {
        const x = Math.floor(i / h), y = i % h;
        if (x >= width || y >= height) continue;
        const p = 4 * (y * width + x);
        pixels[p] = r, pixels[p + 1] = g, pixels[p + 2] = b, pixels[p + 3] = alpha;
      }
    at += run;
    on = !on;
  }
}

function drawMasks(g, width, height, masks) {
  if (!masks.length) return;
  const layer = g.getImageData(0, 0, width, height);
  for (const m of masks) paintMask(layer.data, width, height, m.mask, rgb(m.index), m.strong ? 200 : 120);
  g.putImageData(layer, 0, 0);
}

/* The picture's pixels to one of the screen, so that lines and points are of one size on every picture. */
const pixelsShown = width => Math.max(width / ($("photo").clientWidth || width), 0.2);

function drawName(g, text, x, y, index, size, width) {
  g.font = `600 ${size}px system-ui, sans-serif`;
  const w = g.measureText(text).width + size * 0.7, h = size * 1.4;
  x = Math.max(0, Math.min(x, width - w));
  y = y < h ? y : y - h;
  g.fillStyle = colour(index);
  g.fillRect(x, y, w, h);
  g.fillStyle = inkOn(index);
  g.fillText(text, x + size * 0.35, y + size * 1.05);
}

function drawPoint(g, x, y, radius, index) {
  g.beginPath();
  g.arc(x, y, radius, 0, 7);
  g.fillStyle = colour(index);
  g.fill();
  g.lineWidth = radius / 3;
  g.strokeStyle = "#fff";
  g.stroke();
}

/* `hits`: detections; the chosen one is drawn strongest. */
function drawHits(g, hits, chosen, width, height) {
  const scale = pixelsShown(width);
  drawMasks(g, width, height, hits.filter(h => h.mask).map(h => ({mask: h.mask, index: h.index, strong: h === chosen})));
  for (const h of [...hits].reverse()) {
    const strong = h === chosen, faint = chosen && !strong;
    g.globalAlpha = faint ? 0.35 : 1;
    g.lineWidth = (strong ? 4 : 2.5) * scale;
    g.strokeStyle = colour(h.index);
    g.beginPath();
    if (h.corners) {
      for (let i = 0; i < 8; i += 2) g.lineTo(h.corners[i], h.corners[i + 1]);
      g.closePath();
    } else {
      g.rect(...h.box);
    }
    g.stroke();
    for (const p of h.keypoints || []) if (p.length < 3 || p[2] > 0.3) drawPoint(g, p[0], p[1], 4 * scale, h.index);
  }
  for (const h of [...hits].reverse()) {
    g.globalAlpha = chosen && h !== chosen ? 0.35 : 1;
    drawName(g, `${nameOf(h)} ${percent(h.score)}`, h.box[0], h.box[1], h.index, 13 * scale, width);
  }
  g.globalAlpha = 1;
}

/* From black over red and yellow to white. */
function heatColour(v) {
  return [Math.min(255, v * 3), Math.max(0, Math.min(255, v * 3 - 255)), Math.max(0, v * 3 - 510)];
}

async function showHeat(base64) {
  const canvas = $("heat");
  canvas.hidden = !base64;
  if (!base64) return;
  const image = new Image();
  image.src = "data:image/png;base64," + base64;
  await image.decode();
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  const g = canvas.getContext("2d", {willReadFrequently: true});
  g.drawImage(image, 0, 0);
  const layer = g.getImageData(0, 0, canvas.width, canvas.height), p = layer.data;
  for (let i = 0; i < p.length; i += 4) {
    const v = p[i];
    [p[i], p[i + 1], p[i + 2]] = heatColour(v);
    p[i + 3] = Math.min(255, v * 1.8);
  }
  g.putImageData(layer, 0, 0);
}
