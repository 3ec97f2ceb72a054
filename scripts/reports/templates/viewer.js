// The interactive viewer of a case. Two NiiVue views show two images of one grid; this script holds the state (crosshair,
// zoom, window, overlay, curtain) and draws both views from it, so that they cannot differ. Of NiiVue it uses:
// new Niivue(options), attachToCanvas, addColormap, colormap, setSliceType, updateGLVolume, drawScene, canvasPos2frac, and
// the members opts, scene, volumes, back, overlays, screenSlices, uiData.dpr; NVImage.createNiftiArray and NVImage.new.
(async () => {
  "use strict";
  const $ = name => document.getElementById(`viewer-${name}`);
  const content = JSON.parse($("content").textContent), N = content.shape, VOXELS = N[0] * N[1] * N[2];
  const state = { left: 0, right: 0, overlay: -1, opacity: 0.6, mode: "sides", curtain: 0.5, view: 3, smooth: false,
    at: [...content.point], pan: [0, 0, 0, 1], azimuth: 110, elevation: 10, window: [...content.window], axis: 2 };
  const SIGNED = "signed", OPAQUE_FROM = 0.5, TRANSLUCENT = 2;
  const UINT8 = 2, UINT16 = 512, MULTIPLANAR = 3, RENDERING = 4, FIXED = { 0: 2, 1: 1, 2: 0 }; // NiiVue's codes; view -> its axis
  const begun = performance.now();

  // ---- volumes -------------------------------------------------------------------------------------------------------
  function inverse(m) { // of an affine of perpendicular axes
    const rows = [0, 1, 2].map(c => {
      const column = [m[c], m[4 + c], m[8 + c]], square = column.reduce((a, v) => a + v * v, 0);
      return column.map(v => v / square);
    });
    return rows.map(r => [...r, -(r[0] * m[3] + r[1] * m[7] + r[2] * m[11])]);
  }
  const world = (m, p) => [0, 1, 2].map(r => m[4 * r] * p[0] + m[4 * r + 1] * p[1] + m[4 * r + 2] * p[2] + m[4 * r + 3]);
  async function stored(index) {
    const volume = content.volumes[index];
    const values = await unpack($(`volume-${index}`).textContent, volume.packed);
    const [z, y, x] = volume.packed.shape;
    return { ...volume, values, shape: [x, y, z] };
  }
  const sameGrid = volume => volume.shape.every((n, a) => n === N[a]) && volume.affine.every((v, i) => Math.abs(v - content.affine[i]) < 1e-3);
  function nearest(volume) { // the stored voxel nearest to each voxel of the viewer; 0 outside
    if (sameGrid(volume)) return volume;
    const back = inverse(volume.affine), values = new volume.values.constructor(VOXELS), [X, Y, Z] = volume.shape;
    const step = [0, 1, 2].map(r => [0, 1, 2].map(c => back[r][0] * content.affine[c] + back[r][1] * content.affine[4 + c] + back[r][2] * content.affine[8 + c]));
    const first = back.map(r => r[0] * content.affine[3] + r[1] * content.affine[7] + r[2] * content.affine[11] + r[3]);
    const near = 1e-6; // a voxel midway between two slices takes the earlier, as the pictures do
    for (let k = 0, n = 0; k < N[2]; k++) for (let j = 0; j < N[1]; j++) for (let i = 0; i < N[0]; i++, n++) {
      const x = Math.ceil(first[0] + step[0][0] * i + step[0][1] * j + step[0][2] * k - 0.5 - near);
      const y = Math.ceil(first[1] + step[1][0] * i + step[1][1] * j + step[1][2] * k - 0.5 - near);
      const z = Math.ceil(first[2] + step[2][0] * i + step[2][1] * j + step[2][2] * k - 0.5 - near);
      if (x >= 0 && y >= 0 && z >= 0 && x < X && y < Y && z < Z) values[n] = volume.values[x + X * (y + Y * z)];
    }
    return { ...volume, values, shape: N };
  }
  function interpolated(volume, axis, weights) { // the slices times the matrix of the interpolation
    const stride = volume.shape.slice(0, axis).reduce((a, b) => a * b, 1), count = volume.shape[axis];
    const values = new Uint16Array(VOXELS), outer = VOXELS / (stride * N[axis]), line = new Float32Array(stride);
    for (let o = 0; o < outer; o++) for (let n = 0; n < N[axis]; n++) {
      line.fill(0.5); // rounds
      weights[n].forEach((weight, s) => {
        if (weight) { const from = (o * count + s) * stride; for (let i = 0; i < stride; i++) line[i] += weight * volume.values[from + i]; }
      });
      const to = (o * N[axis] + n) * stride;
      for (let i = 0; i < stride; i++) values[to + i] = Math.max(0, Math.min(volume.last, line[i]));
    }
    return { ...volume, values, shape: N };
  }
  async function niivueImage(name, volume, low, high, colours) {
    const code = volume.values.BYTES_PER_ELEMENT === 1 ? UINT8 : UINT16, m = content.affine;
    const spacing = [0, 1, 2].map(c => Math.hypot(m[c], m[4 + c], m[8 + c]));
    const file = niivue.NVImage.createNiftiArray(N, spacing, m, code, volume.values), head = new DataView(file.buffer, file.byteOffset);
    for (const [offset, value] of [[112, volume.step], [116, volume.low], [124, high], [128, low]]) head.setFloat32(offset, value, true);
    const image = await niivue.NVImage.new(file.buffer, `${name}.nii`, colours === SIGNED ? "above" : colours, 1, null, low, high);
    if (colours === SIGNED) Object.assign(image, { // transparent near 0, opaque from half of the scale outwards
      _colormap: "above", colormapNegative: "below", colormapType: TRANSLUCENT, cal_min: high * OPAQUE_FROM, cal_max: high, cal_minNeg: low, cal_maxNeg: low * OPAQUE_FROM });
    return image;
  }

  // ---- start ---------------------------------------------------------------------------------------------------------
  function refuse(why) { $("state").textContent = `${why} The pictures on this page show the same volumes.`; document.body.dataset.viewer = "absent"; }
  if (typeof DecompressionStream === "undefined" || !document.createElement("canvas").getContext("webgl2")) {
    refuse("The viewer needs WebGL 2, which this browser does not have or does not allow."); return;
  }
  const script = document.createElement("script"); // its hash stands in the page's content security policy
  script.textContent = new TextDecoder().decode(await inflate($("library").textContent));
  document.head.append(script);
  const cache = new Map(); // stored volumes and what is made of them, as they are needed
  const once = (key, make) => { if (!cache.has(key)) cache.set(key, make()); return cache.get(key); };
  const volumeOf = index => once(`stored ${index}`, () => stored(index));
  const imageOf = n => once(`image ${n}`, async () => {
    const { name, volume, axis, weights } = content.images[n], kept = await volumeOf(volume);
    const own = weights ? interpolated(kept, axis, weights) : nearest(kept);
    return { name, ...own, image: await niivueImage(name, own, ...state.window, "gray") };
  });
  const differenceOf = (a, b) => once(`difference ${a} ${b}`, async () => {
    const [from, to] = await Promise.all([imageOf(a), imageOf(b)]), high = (content.window[1] - content.window[0]) / 4, last = 255;
    const values = new Uint8Array(VOXELS), step = 2 * high / last;
    for (let i = 0; i < VOXELS; i++) {
      const value = to.low + to.step * to.values[i] - from.low - from.step * from.values[i];
      values[i] = Math.max(0, Math.min(last, Math.round((value + high) / step)));
    }
    const own = { values, low: -high, step, last, cut: [true, true], shape: N };
    return { name: "difference", high, unit: "", ...own, image: await niivueImage("difference", own, -high, high, SIGNED) };
  });
  const overlayOf = n => n === content.overlays.length ? differenceOf(state.left, state.right) : once(`overlay ${n}`, async () => {
    const { name, volume, low, high, unit } = content.overlays[n], kept = await volumeOf(volume);
    return { ...kept, name, low, high, unit, image: await niivueImage(name, kept, low, high, low < 0 ? SIGNED : "viridis") };
  });
  const views = [];
  try {
    for (const side of ["left", "right"]) {
      const view = new niivue.Niivue({ isRadiologicalConvention: true, sagittalNoseLeft: true, interactive: false, dragAndDropEnabled: false, logLevel: "error",
        isNearestInterpolation: true, crosshairColor: [1, 0.82, 0.29, 1], crosshairWidth: 1, crosshairGap: 6, multiplanarShowRender: 0, multiplanarPadPixels: 4,
        multiplanarLayout: 0, tileMargin: 0, show3Dcrosshair: true, backColor: [0, 0, 0, 1], fontMinPx: 13, fontColor: [0.85, 0.85, 0.85, 1], loadingText: "" });
      views.push(view);
    }
    $("box").hidden = false;
    for (const [n, side] of ["left", "right"].entries()) await views[n].attachToCanvas($(`canvas-${side}`), false);
    const ramp = (R, G, B) => ({ R, G, B, A: [255, 255, 255], I: [0, 128, 255] });
    for (const view of views) { view.addColormap("above", ramp([253, 239, 178], [219, 138, 24], [199, 98, 43])); view.addColormap("below", ramp([209, 103, 33], [229, 169, 102], [240, 207, 172])); }
  } catch (error) {
    $("box").hidden = true;
    refuse(`The viewer could not start (${error.message}).`); return;
  }

  // ---- drawing -------------------------------------------------------------------------------------------------------
  let drawn = 0, waiting = false, loading = Promise.resolve();
  const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
  function draw() { if (!waiting) { waiting = true; requestAnimationFrame(paint); } }
  function paint() {
    waiting = false;
    for (const view of views) {
      if (!view.volumes.length) continue;
      view.scene.crosshairPos = state.at.map((i, a) => (i + 0.5) / N[a]);
      view.scene.pan2Dxyzmm = [...state.pan];
      view.scene.renderAzimuth = state.azimuth; view.scene.renderElevation = state.elevation;
      view.drawScene();
    }
    paintCurtain(); read(state.at); drawn++;
    $("stage").dataset.drawn = String(drawn);
  }
  const tiles = () => views[1].screenSlices.map(tile => tile.leftTopWidthHeight.map(v => v / views[1].uiData.dpr)).map(([l, t, w, h]) =>
    w && h ? [l, t, w, h] : [0, 0, views[1].canvas.clientWidth, views[1].canvas.clientHeight]);
  function paintCurtain() {
    document.querySelectorAll(".viewer .line").forEach(line => line.remove());
    const pane = $("canvas-right").parentElement;
    if (state.mode !== "curtain") { pane.style.clipPath = ""; return; }
    const parts = [];
    for (const [left, top, wide, high] of tiles()) {
      const x = left + state.curtain * wide, line = document.createElement("div");
      parts.push(`M${x} ${top}H${left + wide}V${top + high}H${x}Z`);
      line.className = "line"; line.style.cssText = `left:${x}px;top:${top}px;height:${high}px`;
      $("stage").append(line);
    }
    const wide = views[1].canvas.clientWidth;
    pane.style.clipPath = `path("${parts.join("")}M${wide - 150} 0H${wide}V26H${wide - 150}Z")`; // and the name of the right image
  }
  function window_() {
    const [low, high] = state.window;
    for (const view of views) if (view.volumes.length) { view.volumes[0].cal_min = low; view.volumes[0].cal_max = high; view.updateGLVolume(); }
    controls(); draw();
  }
  // A change of images: what is chosen last wins, whatever is ready first
  function load() {
    const wanted = [state.left, state.right], overlay = state.overlay;
    document.body.dataset.viewer = "loading";
    loading = loading.then(async () => {
      const [left, right, over] = await Promise.all([imageOf(wanted[0]), imageOf(wanted[1]), overlay < 0 ? null : overlayOf(overlay)]);
      [left, right].forEach((own, n) => {
        const view = views[n];
        [own.image.cal_min, own.image.cal_max] = state.window;
        view.volumes = over ? [own.image, over.image] : [own.image];
        if (over) over.image._opacity = state.opacity;
        view.back = own.image; view.overlays = view.volumes.slice(1);
        view.setSliceType(state.view); view.updateGLVolume();
        $(n ? "canvas-right" : "canvas-left").nextElementSibling.textContent = own.name;
      });
      shown = { left, right, over };
      controls(); paint();
      document.body.dataset.viewer = "ready";
    }).catch(error => { $("box").hidden = true; refuse(`The viewer failed (${error.message}).`); });
    return loading;
  }
  let shown = null;

  // ---- what is said ----------------------------------------------------------------------------------------------------
  const plain = (value, step) => value.toFixed(clamp(Math.ceil(-Math.log10(step)), 0, 6)).replace(/^-/, "\u2212");
  function valueAt(own, [x, y, z]) {
    const number = own.values[x + N[0] * (y + N[1] * z)], value = plain(own.low + own.step * number, own.step);
    return (number === 0 && own.cut[0] ? "\u2264 " : number === own.last && own.cut[1] ? "\u2265 " : "") + value + ` (in steps of ${plain(own.step, own.step / 10)})`;
  }
  function read(voxel) {
    if (!shown) return;
    const box = $("reading"), mm = world(content.affine, voxel).map(v => plain(v, 0.1)).join(", ");
    const parts = [["RAS mm", mm], [shown.left.name, valueAt(shown.left, voxel)]];
    if (shown.right !== shown.left) parts.push([shown.right.name, valueAt(shown.right, voxel)]);
    if (shown.over) parts.push([shown.over.name, `${valueAt(shown.over, voxel)}${shown.over.unit ? `, ${shown.over.unit}` : ""}`]);
    box.replaceChildren(...parts.map(([name, value]) => {
      const one = document.createElement("span"), label = document.createElement("i");
      label.textContent = `${name} `; one.append(label, value); return one;
    }));
    box.dataset.voxel = voxel.join(" ");
  }
  function bar(canvas, colour) { // colour of a share from 0 to 1 of the scale: red, green, blue
    const ink = canvas.getContext("2d"), line = ink.createImageData(canvas.width, 1);
    for (let i = 0; i < canvas.width; i++) line.data.set([...colour(i / (canvas.width - 1)), 255], 4 * i);
    ink.putImageData(line, 0, 0);
  }
  function coloured(over) {
    const [above, below, level] = ["above", "below", "viridis"].map(name => views[0].colormap(name)), pick = (lut, share) => [...lut.slice(4 * Math.round(255 * share)).slice(0, 3)];
    if (over.low >= 0) return share => pick(level, share);
    return share => { // as it looks over a medium gray
      const size = Math.abs(2 * share - 1), alpha = Math.min(1, (size / OPAQUE_FROM) ** 2);
      return pick(share < 0.5 ? below : above, size).map(v => v * alpha + 128 * (1 - alpha));
    };
  }
  function controls() {
    const [low, high] = state.window, span = content.window[1] - content.window[0];
    for (const name of ["low", "high"]) { $(name).min = content.window[0] - 0.5 * span; $(name).max = content.window[1] + span; }
    $("low").value = low; $("high").value = high;
    $("gray-low").textContent = plain(low, span / 100); $("gray-high").textContent = plain(high, span / 100);
    bar($("gray"), share => [255 * share, 255 * share, 255 * share]);
    $("left").value = state.left; $("right").value = state.right; $("overlay").value = state.overlay; $("view").value = state.view;
    $("opacity").value = state.opacity; $("curtain").value = 100 * state.curtain; $("smooth").checked = state.smooth;
    $("stage").dataset.mode = state.mode; $("curtain-label").hidden = state.mode !== "curtain";
    $("sides").setAttribute("aria-pressed", String(state.mode === "sides")); $("swipe").setAttribute("aria-pressed", String(state.mode === "curtain"));
    const over = shown && shown.over;
    $("colours").hidden = !over;
    if (over) {
      const step = (over.high - over.low) / 100;
      $("colour-low").textContent = plain(over.low, step); $("colour-high").textContent = `${plain(over.high, step)}${over.unit ? ` (${over.unit})` : ""}`;
      bar($("colour"), coloured(over));
    }
  }

  // ---- what is done ------------------------------------------------------------------------------------------------------
  function choose(side, n) { if (n < content.images.length) { state[side] = n; load(); } }
  function mode(name) { state.mode = name; controls(); draw(); }
  function move(axis, steps) { state.at[axis] = clamp(state.at[axis] + steps, 0, N[axis] - 1); draw(); }
  function zoom(factor) {
    const old = state.pan[3], now = clamp(old * factor, 1, 12), mm = world(content.affine, state.at);
    state.pan = now === 1 ? [0, 0, 0, 1] : [...[0, 1, 2].map(a => state.pan[a] + (old - now) * mm[a]), now]; // about the crosshair
    draw();
  }
  function reset() {
    Object.assign(state, { at: [...content.point], pan: [0, 0, 0, 1], window: [...content.window], curtain: 0.5, azimuth: 110, elevation: 10 });
    window_();
  }
  function curtainTo(share) { state.curtain = clamp(share, 0, 1); controls(); draw(); }
  // Where canvasPos2frac finds what is drawn at a pixel: WebGL cuts the position and the size of a tile, which it counts from
  // below, to whole pixels; canvasPos2frac does not. Without this the voxel named is that of a pixel up to two away.
  function placed(height, { leftTopWidthHeight: [left, top, wide, high] }, x, y) {
    const [l, w, h, below] = [left, wide, high, height - top - high].map(Math.trunc);
    return w && h ? [left + (x - l) * wide / w, top + (y - (height - below - h)) * high / h] : [x, y];
  }
  // The view, the tile and the voxel under a point of the window; null outside the images
  function under(event) {
    const n = state.mode === "curtain" ? 0 : views.findIndex(view => { const box = view.canvas.getBoundingClientRect();
      return event.clientX >= box.left && event.clientX < box.right && event.clientY >= box.top && event.clientY < box.bottom; });
    if (n < 0) return null;
    const view = views[n], box = view.canvas.getBoundingClientRect(), dpr = view.uiData.dpr;
    const middle = (at, start) => Math.floor(at * dpr) - Math.round(start * dpr) + 0.5; // of the pixel; a browser draws a canvas at whole pixels
    const x = middle(event.clientX, box.left), y = middle(event.clientY, box.top);
    const tile = view.screenSlices.find(({ leftTopWidthHeight: [l, t, w, h] }) => !w || !h || x >= l && x < l + w && y >= t && y < t + h);
    const frac = tile && tile.axCorSag < RENDERING ? view.canvasPos2frac(placed(view.canvas.height, tile, x, y)) : [-1];
    const voxel = frac[0] < 0 ? null : [0, 1, 2].map(a => clamp(Math.floor(frac[a] * N[a]), 0, N[a] - 1));
    return { tile, voxel, rendering: state.view === RENDERING };
  }
  const onLine = event => {
    if (state.mode !== "curtain") return null;
    const box = $("canvas-right").getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    return tiles().find(([l, t, w, h]) => y >= t && y < t + h && Math.abs(l + state.curtain * w - x) < 9) || null;
  };
  const stage = $("stage"), fingers = new Map();
  let action = null;
  stage.addEventListener("pointerdown", event => {
    event.preventDefault(); stage.focus({ preventScroll: true }); stage.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    const found = under(event), line = onLine(event);
    if (fingers.size > 1) action = { kind: "pinch" };
    else if (event.button === 2) action = { kind: "window" };
    else if (event.shiftKey || event.button === 1) action = { kind: "pan", axes: found && found.tile ? [0, 1, 2].filter(a => a !== FIXED[found.tile.axCorSag]) : [] };
    else if (line) action = { kind: "curtain", tile: line };
    else if (found && found.rendering) action = { kind: "turn" };
    else action = { kind: "crosshair" };
    if (found && found.tile && found.tile.axCorSag < MULTIPLANAR) state.axis = FIXED[found.tile.axCorSag];
    if (action.kind === "crosshair" && found && found.voxel) { state.at = found.voxel; draw(); }
  });
  stage.addEventListener("pointermove", event => {
    const finger = fingers.get(event.pointerId);
    if (!finger || !action) {
      const found = under(event);
      stage.style.cursor = onLine(event) ? "ew-resize" : "";
      if (found && found.voxel && event.pointerType === "mouse") read(found.voxel);
      return;
    }
    const dx = event.clientX - finger.x, dy = event.clientY - finger.y, found = under(event);
    if (action.kind === "crosshair" && found && found.voxel) { state.at = found.voxel; draw(); }
    else if (action.kind === "curtain") { const box = $("canvas-right").getBoundingClientRect(); curtainTo((event.clientX - box.left - action.tile[0]) / action.tile[2]); }
    else if (action.kind === "turn") { state.azimuth += dx * 0.6; state.elevation = clamp(state.elevation + dy * 0.6, -90, 90); draw(); }
    else if (action.kind === "window") {
      const span = content.window[1] - content.window[0], [low, high] = state.window;
      const width = Math.max(span / 100, high - low + dx * span / 300), centre = (low + high) / 2 + dy * span / 400;
      state.window = [centre - width / 2, centre + width / 2]; window_();
    } else if (action.kind === "pan") pan(dx, dy, action.axes);
    else if (action.kind === "pinch" && fingers.size === 2) {
      const other = [...fingers].find(([id]) => id !== event.pointerId)[1], span = (x, y) => Math.hypot(x - other.x, y - other.y) || 1;
      zoom(span(event.clientX, event.clientY) / span(finger.x, finger.y));
    }
    finger.x = event.clientX; finger.y = event.clientY;
  });
  function pan(dx, dy, axes) { // across: right on the left, front on the left; up: as RAS
    const tile = views[0].screenSlices[0];
    if (axes.length < 2 || !tile || state.pan[3] <= 1) return;
    const mmPerPixel = Math.abs(tile.fovMM[0]) / (tile.leftTopWidthHeight[2] || views[0].canvas.width) * views[0].uiData.dpr;
    state.pan[axes[0]] -= dx * mmPerPixel; state.pan[axes[1]] -= dy * mmPerPixel; draw();
  }
  for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, event => { fingers.delete(event.pointerId); if (!fingers.size) action = null; });
  stage.addEventListener("pointerleave", () => { if (shown) read(state.at); });
  stage.addEventListener("contextmenu", event => event.preventDefault());
  stage.addEventListener("dblclick", reset);
  stage.addEventListener("wheel", event => {
    const found = under(event);
    if (!found || !found.tile) return;
    event.preventDefault();
    if (event.ctrlKey || event.metaKey || found.rendering) zoom(Math.exp(-event.deltaY * 0.003));
    else if (found.tile.axCorSag < MULTIPLANAR) { state.axis = FIXED[found.tile.axCorSag]; move(state.axis, -Math.sign(event.deltaY)); }
  }, { passive: false });
  stage.addEventListener("keydown", event => {
    if (event.metaKey || event.ctrlKey || event.altKey) return;
    const [across, up] = [0, 1, 2].filter(a => a !== state.axis), digit = /^Digit([1-9])$/.exec(event.code);
    const acts = {
      ArrowLeft: () => move(across, 1), ArrowRight: () => move(across, -1), ArrowUp: () => move(up, 1), ArrowDown: () => move(up, -1),
      PageUp: () => move(state.axis, 1), PageDown: () => move(state.axis, -1), "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8),
      "[": () => curtainTo(state.curtain - 0.05), "]": () => curtainTo(state.curtain + 0.05), c: () => mode(state.mode === "curtain" ? "sides" : "curtain"),
      x: () => { [state.left, state.right] = [state.right, state.left]; load(); },
      o: () => { state.overlay = state.overlay < content.overlays.length ? state.overlay + 1 : -1; load(); }, r: reset,
    };
    const act = digit ? () => choose(event.shiftKey ? "left" : "right", Number(digit[1]) - 1) : acts[event.key] || acts[event.key.toLowerCase()];
    if (act) { act(); event.preventDefault(); }
  });
  const option = (text, value) => Object.assign(document.createElement("option"), { textContent: text, value });
  for (const side of ["left", "right"]) {
    content.images.forEach((image, n) => $(side).append(option(image.name, n)));
    $(side).addEventListener("change", () => choose(side, Number($(side).value)));
  }
  $("overlay").append(option("none", -1), ...content.overlays.map((overlay, n) => option(overlay.name, n)), option("right minus left", content.overlays.length));
  $("overlay").addEventListener("change", () => { state.overlay = Number($("overlay").value); load(); });
  $("opacity").addEventListener("input", () => {
    state.opacity = Number($("opacity").value);
    if (shown && shown.over) { shown.over.image._opacity = state.opacity; for (const view of views) view.updateGLVolume(); draw(); }
  });
  $("low").addEventListener("input", () => { state.window[0] = Math.min(Number($("low").value), state.window[1] - (content.window[1] - content.window[0]) / 200); window_(); });
  $("high").addEventListener("input", () => { state.window[1] = Math.max(Number($("high").value), state.window[0] + (content.window[1] - content.window[0]) / 200); window_(); });
  $("curtain").addEventListener("input", () => curtainTo(Number($("curtain").value) / 100));
  $("view").addEventListener("change", () => { state.view = Number($("view").value); for (const view of views) view.setSliceType(state.view); draw(); });
  $("smooth").addEventListener("change", () => { state.smooth = $("smooth").checked; for (const view of views) { view.opts.isNearestInterpolation = !state.smooth; view.updateGLVolume(); } draw(); });
  $("sides").addEventListener("click", () => mode("sides")); $("swipe").addEventListener("click", () => mode("curtain")); $("reset").addEventListener("click", reset);
  const sizes = new ResizeObserver(draw);
  for (const view of views) sizes.observe(view.canvas);

  const named = name => content.images.findIndex(image => image.name === name);
  state.right = Math.max(0, named("GLADE")); // on the left the first one, which is what was acquired
  if (state.left === state.right) state.right = content.images.length - 1;
  await load();
  $("state").hidden = true;
  document.body.dataset.seconds = ((performance.now() - begun) / 1000).toFixed(2);
})();
