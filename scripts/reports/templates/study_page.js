"use strict";
const study = JSON.parse(document.getElementById("study").textContent);
const $ = id => document.getElementById(id);
const LEVELS = study.levels.length, IMAGES = study.items.length, HOME = study.window;
const full = HOME[1] - HOME[0];
let state = null;         // of this reader: what is kept and exported
let at = 0, active = 0;   // item and question shown
let volume = null, shown = null;
let view = null;          // plane, window, level, zoom, shift
let since = null;         // start of the time not yet counted, ms

// ---- what is kept in the browser -------------------------------------------------------------------------------
const keyOf = reader => `reader-study:${study.study}:${reader}`;
let lost = false;
function keep() { try { localStorage.setItem(keyOf(state.reader), JSON.stringify(state)); } catch { lost = true; } }
function kept(reader) {
  try { const found = JSON.parse(localStorage.getItem(keyOf(reader))); return found && found.page_sha256 === study.page_sha256 ? found : null; }
  catch { return null; }
}
try { localStorage.getItem(keyOf("")); } catch { lost = true; }
const whole = answer => Boolean(answer) && study.questions.every(q => answer.scores[q.id]);
const count = who => study.items.filter(item => whole(who.answers[item.id])).length;
const levelsOf = question => question.levels || study.levels;
const answerOf = item => state.answers[item.id] || (state.answers[item.id] = { scores: {}, seconds: 0, answered: null });

// ---- which of the three screens ----------------------------------------------------------------------------------
function screen(name) { for (const id of ["start", "rating", "end"]) $(id).hidden = id !== name; }
function showStart() {
  stopClock(); screen("start");
  $("reader").value = ""; // the next reader finds no code of the one before
  greet(); $("reader").focus();
}
function greet() {
  const reader = $("reader").value.trim().toUpperCase(), note = $("found"), before = reader && kept(reader);
  $("go").textContent = before ? "Resume" : "Start";
  note.className = lost ? "note warn" : "note";
  note.textContent = before ? `${count(before)} of ${IMAGES} images are answered under this code.`
    : lost ? "This browser keeps nothing: do not close the page before your answers are saved." : "";
}
$("reader").addEventListener("input", greet);
$("entry").addEventListener("submit", event => {
  event.preventDefault();
  const reader = $("reader").value.trim().toUpperCase();
  if (!/^[A-Z0-9][A-Z0-9_-]{0,15}$/.test(reader)) {
    $("found").className = "note warn"; $("found").textContent = "A code of letters and digits, such as R1."; $("reader").focus(); return;
  }
  state = kept(reader) || { reader, page_sha256: study.page_sha256, begun: new Date().toISOString(), at: 0, answers: {} };
  keep(); screen("rating"); show(Math.min(state.at, IMAGES - 1)); $("image").focus();
});
function showEnd() {
  stopClock(); screen("end");
  const left = IMAGES - count(state);
  $("end").querySelector("h1").textContent = left ? "Paused" : "All images are answered";
  $("done").textContent = left ? `${left} of ${IMAGES} images are still to be answered. Save the file when all are; it can be saved before as well.`
    : "Thank you. Save your answers and send the file to whoever gave you this page.";
  $("review").textContent = left ? "Go on" : "Back to the images";
  $("review").classList.toggle("main", left > 0); $("export").classList.toggle("main", left === 0);
  $("saved").textContent = ""; $("clear").hidden = true; $(left ? "review" : "export").focus();
}
$("export").addEventListener("click", () => {
  const answers = study.items.filter(item => state.answers[item.id] && Object.keys(state.answers[item.id].scores).length)
    .map(item => ({ item: item.id, ...state.answers[item.id], seconds: Math.round(state.answers[item.id].seconds * 10) / 10 }));
  const file = { kind: "reader-study answers", study: study.study, page_sha256: study.page_sha256, key_sha256: study.key_sha256,
    reader: state.reader, begun: state.begun, saved: new Date().toISOString(), complete: count(state) === IMAGES, answers };
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(file, null, 1)], { type: "application/json" }));
  link.download = `answers_${study.study}_${state.reader}.json`;
  link.click(); setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  $("saved").textContent = `Saved as ${link.download}, where this browser keeps its downloads.`;
  $("clear").hidden = false;
});
$("clear").addEventListener("click", () => {
  try { localStorage.removeItem(keyOf(state.reader)); } catch { lost = true; }
  state = null; shown = null; showStart();
});
$("review").addEventListener("click", () => {
  const open = study.items.findIndex(item => !whole(state.answers[item.id]));
  screen("rating"); show(open < 0 ? at : whole(state.answers[study.items[at].id]) ? open : at); $("image").focus();
});

// ---- time: only while the image is seen --------------------------------------------------------------------------
function stopClock() {
  if (since !== null && state) { answerOf(study.items[at]).seconds += (performance.now() - since) / 1000; keep(); }
  since = null;
}
function startClock() { if (!document.hidden && !$("rating").hidden) since = performance.now(); }
document.addEventListener("visibilitychange", () => document.hidden ? stopClock() : startClock());
addEventListener("pagehide", stopClock);

// ---- images ---------------------------------------------------------------------------------------------------------
const decoded = new Map();
function load(n) {
  if (!decoded.has(n)) decoded.set(n, imageOf(study.items[n]));
  for (const m of decoded.keys()) if (Math.abs(m - n) > 2) decoded.delete(m);
  return decoded.get(n);
}
const imageOf = item => unpack($(`image-${item.id}`).textContent, { shape: item.shape, bytes: 2, axes: study.axes });
async function show(n) {
  stopClock(); at = n; state.at = n; shown = null; keep();
  const item = study.items[n], answer = state.answers[item.id];
  active = Math.max(0, study.questions.findIndex(q => !(answer && answer.scores[q.id])));
  view = { plane: item.centre, window: 100, level: 50, zoom: 1, x: 0, y: 0 };
  [...item.letters].forEach((letter, i) => { $(["left", "right", "top", "bottom"][i]).textContent = letter; });
  $("plane").max = item.shape[0] - 1; $("plane").disabled = item.shape[0] < 2;
  mark(); say(`Image ${n + 1} of ${IMAGES}`);
  let values;
  try { values = await load(n); }
  catch { $("count").textContent = "This browser is too old to show the images"; return; }
  if (at !== n) return;
  volume = values; shown = item; draw(); startClock();
  if (n + 1 < IMAGES) load(n + 1);
}
const plate = document.createElement("canvas");
let queued = false;
function draw() { if (!queued) { queued = true; requestAnimationFrame(() => { queued = false; paint(); }); } }
function geometry() {
  const [, rows, columns] = shown.shape, [high, wide] = shown.pixel_mm, box = $("stage").getBoundingClientRect();
  const scale = Math.min(box.width / (columns * wide), box.height / (rows * high)) * 0.98 * view.zoom; // CSS pixels a mm
  const w = columns * wide * scale, h = rows * high * scale;
  const roomX = Math.max(0, (w - box.width * 0.5) / 2), roomY = Math.max(0, (h - box.height * 0.5) / 2);
  if (view.zoom === 1) view.x = view.y = 0;
  view.x = Math.max(-roomX, Math.min(roomX, view.x)); view.y = Math.max(-roomY, Math.min(roomY, view.y));
  return { box, w, h, x: (box.width - w) / 2 + view.x, y: (box.height - h) / 2 + view.y };
}
function paint() {
  if (!shown || $("rating").hidden) return;
  const [planes, rows, columns] = shown.shape, canvas = $("image"), ratio = devicePixelRatio || 1;
  const { box, w, h, x, y } = geometry();
  const wide = Math.round(box.width * ratio), high = Math.round(box.height * ratio);
  if (canvas.width !== wide || canvas.height !== high) { canvas.width = wide; canvas.height = high; }
  if (plate.width !== columns || plate.height !== rows) { plate.width = columns; plate.height = rows; }
  const ink = plate.getContext("2d"), frame = ink.createImageData(columns, rows), out = new Uint32Array(frame.data.buffer);
  const centre = HOME[0] + full * view.level / 100, width = Math.max(1, full * view.window / 100), first = view.plane * rows * columns;
  const table = new Uint32Array(study.stored_max + 1);
  for (let v = 0; v < table.length; v++) {
    const grey = Math.max(0, Math.min(255, Math.round(255 * ((v - centre) / width + 0.5))));
    table[v] = (0xff000000 | grey << 16 | grey << 8 | grey) >>> 0;
  }
  for (let i = 0; i < out.length; i++) out[i] = table[volume[first + i]];
  ink.putImageData(frame, 0, 0);
  const paper = canvas.getContext("2d");
  paper.setTransform(ratio, 0, 0, ratio, 0, 0);
  paper.fillStyle = "#000"; paper.fillRect(0, 0, box.width, box.height);
  paper.imageSmoothingEnabled = true; paper.imageSmoothingQuality = "high";
  paper.drawImage(plate, x, y, w, h);
  canvas.dataset.drawn = `${shown.id} ${view.plane} ${w.toFixed(1)} ${h.toFixed(1)}`;
  canvas.setAttribute("aria-label", `Image ${at + 1} of ${IMAGES}, plane ${view.plane + 1} of ${planes}`);
  $("where").textContent = `${view.plane + 1} / ${planes}`; $("plane").value = view.plane;
  $("width").value = view.window; $("level").value = view.level;
  const moved = [view.window === 100 && view.level === 50 ? "" : `window ${Math.round(view.window)} %, level ${Math.round(view.level)} %`,
    view.zoom === 1 ? "" : `zoom ${Math.round(view.zoom * 100)} %`];
  $("reading").textContent = moved.filter(Boolean).join(", ");
}
new ResizeObserver(draw).observe($("stage"));
const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
function turn(steps) { if (shown) { view.plane = clamp(view.plane + steps, 0, shown.shape[0] - 1); draw(); } }
function windowBy(width, level) { view.window = clamp(view.window + width, 2, 200); view.level = clamp(view.level + level, -50, 150); draw(); }
function zoomBy(factor, px, py) {
  if (!shown) return;
  const box = $("stage").getBoundingClientRect(), old = view.zoom;
  view.zoom = clamp(old * factor, 1, 8);
  const dx = (px ?? box.left + box.width / 2) - box.left - box.width / 2, dy = (py ?? box.top + box.height / 2) - box.top - box.height / 2;
  view.x = dx - (dx - view.x) * view.zoom / old; view.y = dy - (dy - view.y) * view.zoom / old; draw();
}
function panBy(x, y) { view.x += x; view.y += y; draw(); }
function reset() { Object.assign(view, { plane: shown ? shown.centre : view.plane, window: 100, level: 50, zoom: 1, x: 0, y: 0 }); draw(); }

// ---- mouse and fingers ---------------------------------------------------------------------------------------------
const canvas = $("image"), fingers = new Map();
canvas.addEventListener("pointerdown", event => {
  canvas.setPointerCapture(event.pointerId);
  fingers.set(event.pointerId, { x: event.clientX, y: event.clientY, pan: event.button > 0 || event.shiftKey });
  event.preventDefault(); canvas.focus({ preventScroll: true });
});
canvas.addEventListener("pointermove", event => {
  const finger = fingers.get(event.pointerId);
  if (!finger) return;
  const dx = event.clientX - finger.x, dy = event.clientY - finger.y;
  if (fingers.size === 2) {
    const other = [...fingers].find(([id]) => id !== event.pointerId)[1], span = (x, y) => Math.hypot(x - other.x, y - other.y) || 1;
    zoomBy(span(event.clientX, event.clientY) / span(finger.x, finger.y), (event.clientX + other.x) / 2, (event.clientY + other.y) / 2);
    panBy(dx / 2, dy / 2);
  } else if (finger.pan) panBy(dx, dy);
  else windowBy(dx * 0.4, -dy * 0.3);
  finger.x = event.clientX; finger.y = event.clientY;
});
for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, event => fingers.delete(event.pointerId));
canvas.addEventListener("contextmenu", event => event.preventDefault());
canvas.addEventListener("dblclick", reset);
let rolled = 0;
canvas.addEventListener("wheel", event => {
  event.preventDefault();
  if (event.ctrlKey || event.metaKey) { zoomBy(Math.exp(-event.deltaY * 0.004), event.clientX, event.clientY); return; }
  rolled += event.deltaMode ? event.deltaY * 30 : event.deltaY;
  while (Math.abs(rolled) >= 30) { turn(Math.sign(rolled)); rolled -= 30 * Math.sign(rolled); }
}, { passive: false });
$("plane").addEventListener("input", () => { view.plane = Number($("plane").value); draw(); });
$("width").addEventListener("input", () => { view.window = Number($("width").value); draw(); });
$("level").addEventListener("input", () => { view.level = Number($("level").value); draw(); });
for (const id of ["plane", "width", "level"]) $(id).addEventListener("pointerup", () => canvas.focus({ preventScroll: true }));
$("larger").addEventListener("click", () => zoomBy(1.25));
$("smaller").addEventListener("click", () => zoomBy(0.8));
$("reset").addEventListener("click", reset);
$("window").addEventListener("click", () => { $("adjust").hidden = !$("adjust").hidden; $("window").setAttribute("aria-expanded", String(!$("adjust").hidden)); });

// ---- questions -------------------------------------------------------------------------------------------------------
study.questions.forEach((question, q) => {
  const group = document.createElement("fieldset"), title = document.createElement("h2"), text = document.createElement("p");
  const levels = document.createElement("div"), ends = document.createElement("div"), chosen = document.createElement("p");
  group.className = "question"; levels.className = "levels"; ends.className = "ends"; chosen.className = "chosen";
  title.textContent = question.title; text.textContent = question.text;
  group.setAttribute("aria-label", `${question.title}. ${question.text}`);
  levelsOf(question).forEach((name, i) => {
    const button = document.createElement("button");
    button.textContent = i + 1; button.title = name; button.setAttribute("aria-label", `${i + 1}, ${name}`);
    button.addEventListener("click", () => give(q, i + 1)); levels.append(button);
  });
  for (const name of [levelsOf(question)[0], levelsOf(question)[LEVELS - 1]]) { const end = document.createElement("span"); end.textContent = name; ends.append(end); }
  group.append(title, text, levels, ends, chosen); $("questions").append(group);
});
const keys = document.createElement("p");
keys.id = "keys"; $("questions").append(keys);
["1", "5", "Q", "\u2190", "\u2192", "\u2191", "\u2193"].forEach((name, i) => {
  const key = document.createElement("kbd"); key.textContent = name;
  keys.append(["", " to ", " marks, ", " other question, ", " ", " images, ", " "][i], key);
});
keys.append(" planes");
function give(q, score) {
  if (!shown) return;
  const answer = answerOf(shown), name = study.questions[q];
  answer.scores[name.id] = score; answer.answered = new Date().toISOString();
  const open = study.questions.findIndex(one => !answer.scores[one.id]);
  active = open < 0 ? q : open; keep(); mark(); say(`${name.title}: ${score}, ${levelsOf(name)[score - 1]}`);
}
function mark() {
  const answer = state.answers[study.items[at].id], ready = whole(answer), groups = document.querySelectorAll(".question");
  groups.forEach((group, q) => {
    const score = answer && answer.scores[study.questions[q].id];
    group.classList.toggle("active", q === active);
    group.querySelectorAll("button").forEach((button, i) => button.setAttribute("aria-pressed", String(score === i + 1)));
    group.querySelector(".chosen").textContent = score > 1 && score < LEVELS ? `${score}: ${levelsOf(study.questions[q])[score - 1]}` : "";
  });
  $("count").textContent = `Image ${at + 1} of ${IMAGES}`;
  document.querySelector("#bar i").style.width = `${100 * count(state) / IMAGES}%`;
  $("back").disabled = at === 0; $("next").disabled = !ready;
  $("next").textContent = at + 1 < IMAGES ? "Next" : "Finish";
}
function say(text) { $("said").textContent = text; }
function forth() { if ($("next").disabled) { say("Answer every question first"); return; } if (at + 1 < IMAGES) show(at + 1); else showEnd(); canvas.focus({ preventScroll: true }); }
function back() { if (at > 0) { show(at - 1); canvas.focus({ preventScroll: true }); } }
$("next").addEventListener("click", forth); $("back").addEventListener("click", back); $("pause").addEventListener("click", showEnd);

// ---- keys ------------------------------------------------------------------------------------------------------------
addEventListener("keydown", event => {
  if ($("rating").hidden || event.ctrlKey || event.metaKey || event.altKey) return;
  const slider = event.target.type === "range", button = event.target.tagName === "BUTTON", key = event.key.toLowerCase();
  if (/^[1-9]$/.test(key)) { if (Number(key) <= LEVELS) give(active, Number(key)); return; }
  if (slider && key.startsWith("arrow")) return;
  if (event.shiftKey && key.startsWith("arrow")) {
    panBy(40 * ((key === "arrowleft") - (key === "arrowright")), 40 * ((key === "arrowup") - (key === "arrowdown"))); event.preventDefault(); return;
  }
  const acts = {
    arrowright: forth, arrowleft: back, arrowup: () => turn(1), arrowdown: () => turn(-1), q: () => { active = (active + 1) % study.questions.length; mark(); },
    "+": () => zoomBy(1.25), "=": () => zoomBy(1.25), "-": () => zoomBy(0.8), "0": reset, escape: showEnd,
    w: () => windowBy(5, 0), s: () => windowBy(-5, 0), d: () => windowBy(0, 5), a: () => windowBy(0, -5),
  };
  if (key === "enter" && !button && !event.repeat) { forth(); event.preventDefault(); }
  else if (acts[key] && !(event.repeat && ["arrowright", "arrowleft", "q"].includes(key))) { acts[key](); event.preventDefault(); }
});

document.querySelector("#start h1").textContent = study.title;
$("about").textContent = `${IMAGES} images, in random order.`;
showStart();
