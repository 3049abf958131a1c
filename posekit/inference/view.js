"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const hasPredictions = data.items.some((item) => item.p);
const byId = (id) => document.getElementById(id);
const PAGE = 96;
let shown = [], count = PAGE, current = -1;

function escape(text) {
  return String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}

function number(value, digits = 3) {
  return value === null || value === undefined ? "" : value.toFixed(digits);
}

// An item's drawing: pictures have SIZE x SIZE units whatever their size on the screen.
function drawing(item, marked = -1) {
  const want = { truth: byId("truth").checked, prediction: hasPredictions && byId("prediction").checked };
  const w = data.size / 110, parts = [];
  const skeleton = (points, visible) => {
    const lines = data.links.filter(([a, b]) => visible(a) && visible(b));
    for (const [cls, width] of [["edge", 1.9 * w], ["link", w]]) {
      lines.forEach(([a, b, colour]) => parts.push(
        `<line class="${cls}" x1="${points[a][0]}" y1="${points[a][1]}" x2="${points[b][0]}" y2="${points[b][1]}"
          stroke-width="${width}" ${cls === "link" ? `stroke="${colour}"` : ""}/>`));
    }
    points.forEach((point, k) => visible(k) && parts.push(
      `<circle cx="${point[0]}" cy="${point[1]}" r="${w * 1.25}" fill="${data.colours[k]}" stroke="#101216" stroke-width="${w * 0.5}"/>`));
  };
  const labelled = (k) => item.t[k][2] > 0;
  if (want.prediction && item.p) {
    skeleton(item.p, () => true);
    if (want.truth) {
      item.t.forEach((t, k) => labelled(k) && parts.push(
        `<line class="error" x1="${t[0]}" y1="${t[1]}" x2="${item.p[k][0]}" y2="${item.p[k][1]}" stroke-width="${w * 0.7}"/>
         <circle class="truth" cx="${t[0]}" cy="${t[1]}" r="${w * 1.5}" stroke-width="${w * 0.7}"/>`));
    }
  } else if (want.truth) {
    skeleton(item.t, labelled);
  }
  if (marked >= 0) {
    for (const points of [item.t, item.p]) {
      if (points && (points !== item.t || labelled(marked))) {
        parts.push(`<circle class="mark" cx="${points[marked][0]}" cy="${points[marked][1]}" r="${w * 4}" stroke-width="${w * 0.8}"/>`);
      }
    }
  }
  return `<svg viewBox="0 0 ${data.size} ${data.size}" aria-hidden="true">${parts.join("")}</svg>`;
}

function picture(item, marked) {
  return `<span class="view"><img src="${item.src}" alt="" loading="lazy">${drawing(item, marked)}</span>`;
}

function choose() {
  const text = byId("find").value.trim().toLowerCase(), sort = byId("sort").value;
  const point = hasPredictions ? byId("keypoint").value : "", type = hasPredictions ? byId("type").value : "";
  const least = hasPredictions ? Number(byId("least").value) || 0 : 0;
  const error = (item) => (point === "" ? item.err : item.e[Number(point)]);
  shown = data.items.filter((item) => {
    if (text && !`${item.n} ${item.id}`.toLowerCase().includes(text)) return false;
    if (least > 0 && !(error(item) >= least)) return false;
    if (point !== "" && item.t[Number(point)][2] === 0) return false;
    if (type && !item.k.some((kind, k) => kind === type && (point === "" || Number(point) === k))) return false;
    return true;
  });
  const keys = {
    worst: (item) => -(error(item) ?? -1), best: (item) => error(item) ?? 9,
    labelled: (item) => -item.t.filter((t) => t[2] > 0).length, large: (item) => -item.side, small: (item) => item.side,
  };
  if (keys[sort]) shown.sort((a, b) => keys[sort](a) - keys[sort](b));
  count = PAGE;
  render();
}

function render() {
  byId("grid").innerHTML = shown.slice(0, count).map((item, i) =>
    `<button class="tile" data-place="${i}" aria-label="${escape(item.n)} ${escape(item.id)}">${picture(item)}
     <span class="caption"><span>${escape(item.n)}</span><span>${number(item.err)}</span></span></button>`).join("");
  byId("count").textContent = `${shown.length} of ${data.items.length} instances`;
  byId("more").hidden = shown.length <= count;
  byId("none").hidden = shown.length > 0;
}

function open(place) {
  current = Math.max(0, Math.min(place, shown.length - 1));
  const item = shown[current];
  if (!item) return;
  const rows = data.keypoints.map((name, k) => `<tr data-k="${k}"><td><i class="dot" style="background:${data.colours[k]}"></i>${escape(name)}</td>
    <td>${["not labelled", "occluded", "visible"][item.t[k][2]]}</td>
    ${item.p ? `<td class="n">${number(item.p[k][2], 2)}</td><td class="n">${number(item.e[k])}</td><td>${item.k[k] ?? ""}</td>` : ""}</tr>`);
  byId("big").innerHTML = `<div id="stage">${picture(item)}</div><div class="side">
    <nav><button id="previous">\u2190 Previous</button><button id="next">Next \u2192</button><button id="close">Close</button></nav>
    <h2>${escape(item.n)}</h2><p>instance ${escape(item.id)}, ${current + 1} of ${shown.length}${item.err === null ? "" : `, mean error ${number(item.err)} of the box`}</p>
    <table><thead><tr><th>Keypoint</th><th>Label</th>${item.p ? '<th class="n">Score</th><th class="n">Error</th><th>Type</th>' : ""}</tr></thead>
    <tbody>${rows.join("")}</tbody></table></div>`;
  byId("previous").onclick = () => open(current - 1);
  byId("next").onclick = () => open(current + 1);
  byId("close").onclick = () => byId("dialog").close();
  byId("big").querySelectorAll("tr[data-k]").forEach((row) => {
    row.onmouseenter = () => mark(row, item);
  });
  if (!byId("dialog").open) byId("dialog").showModal();
}

function mark(row, item) {
  byId("big").querySelectorAll("tr.on").forEach((other) => other.classList.remove("on"));
  row.classList.add("on");
  byId("stage").innerHTML = picture(item, Number(row.dataset.k));
}

byId("grid").addEventListener("click", (event) => {
  const tile = event.target.closest(".tile");
  if (tile) open(Number(tile.dataset.place));
});
byId("more").addEventListener("click", () => { count += PAGE; render(); });
byId("controls").addEventListener("input", choose);
byId("controls").addEventListener("submit", (event) => event.preventDefault());
document.addEventListener("keydown", (event) => {
  if (byId("dialog").open) {
    if (event.key === "ArrowRight") open(current + 1);
    if (event.key === "ArrowLeft") open(current - 1);
  } else if (event.key === "/" && document.activeElement !== byId("find")) {
    event.preventDefault();
    byId("find").focus();
  }
});
byId("dialog").addEventListener("close", () => {
  const tile = document.querySelector(`.tile[data-place="${current}"]`);
  if (tile) tile.focus();
});
choose();
const asked = new URLSearchParams(location.hash.slice(1)).get("open");
if (asked !== null) open(Number(asked));
