"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const hasPredictions = data.items.some((item) => item.p);
const byId = (id) => document.getElementById(id);
const isOn = (id) => byId(id) !== null && byId(id).checked;
const valueOf = (id) => (byId(id) === null ? "" : byId(id).value);
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
  const want = { truth: isOn("truth"), prediction: isOn("prediction") };
  const w = data.size / 110, parts = [];
  const skeleton = (points, visible, sure = () => 1) => {
    const lines = data.links.filter(([a, b]) => visible(a) && visible(b));
    for (const [cls, width] of [["edge", 1.9 * w], ["link", w]]) {
      lines.forEach(([a, b, colour]) => parts.push(
        `<line class="${cls}" x1="${points[a][0]}" y1="${points[a][1]}" x2="${points[b][0]}" y2="${points[b][1]}"
          stroke-width="${width}" opacity="${Math.min(sure(a), sure(b))}" ${cls === "link" ? `stroke="${colour}"` : ""}/>`));
    }
    points.forEach((point, k) => visible(k) && parts.push(
      `<circle cx="${point[0]}" cy="${point[1]}" r="${w * 1.25}" fill="${data.colours[k]}" opacity="${sure(k)}" stroke="#101216" stroke-width="${w * 0.5}"/>`));
  };
  const labelled = (k) => item.t[k][2] > 0;
  if (want.prediction && item.p) {
    skeleton(item.p, () => true, (k) => Math.max(0.25, Math.min(1, item.p[k][2])));
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
  const point = valueOf("keypoint"), type = valueOf("type"), least = Number(valueOf("least")) || 0;
  const error = (item) => (point === "" || !item.e ? item.err : item.e[Number(point)]);
  const score = (item) => (!item.p ? -1 : point === "" ? item.s : item.p[Number(point)][2]);
  shown = data.items.filter((item) => {
    if (text && !`${item.n} ${item.id}`.toLowerCase().includes(text)) return false;
    if (least > 0 && !(error(item) >= least)) return false;
    if (point !== "" && data.truth && item.t[Number(point)][2] === 0) return false;
    if (type && !(item.k || []).some((kind, k) => kind === type && (point === "" || Number(point) === k))) return false;
    return true;
  });
  const keys = {
    worst: (item) => -(error(item) ?? -1), best: (item) => error(item) ?? 9,
    unsure: score, sure: (item) => -score(item),
    labelled: (item) => -item.t.filter((t) => t[2] > 0).length, large: (item) => -item.side, small: (item) => item.side,
  };
  if (keys[sort]) shown.sort((a, b) => keys[sort](a) - keys[sort](b));
  count = PAGE;
  render();
}

function render() {
  byId("grid").innerHTML = shown.slice(0, count).map((item, i) =>
    `<button class="tile" data-place="${i}" aria-label="${escape(item.n)} ${escape(item.id)}">${picture(item)}
     <span class="caption"><span>${escape(item.n)}</span><span>${data.truth ? number(item.err) : number(item.s, 2)}</span></span></button>`).join("");
  byId("count").textContent = `${shown.length} of ${data.items.length} instances`;
  byId("more").hidden = shown.length <= count;
  byId("none").hidden = shown.length > 0;
}

function open(place) {
  current = Math.max(0, Math.min(place, shown.length - 1));
  const item = shown[current];
  if (!item) return;
  const label = (k) => (data.truth ? `<td>${["not labelled", "occluded", "visible"][item.t[k][2]]}</td>` : "");
  const answer = (k) => (item.p ? `<td class="n">${number(item.p[k][2], 2)}</td>` : "") +
    (item.k ? `<td class="n">${item.e ? number(item.e[k]) : ""}</td><td>${item.k[k] ?? ""}</td>` : "");
  const rows = data.keypoints.map((name, k) => `<tr data-k="${k}" tabindex="0"><td><i class="dot" style="background:${data.colours[k]}"></i>${escape(name)}</td>${label(k)}${answer(k)}</tr>`);
  const heads = ["Keypoint", ...(data.truth ? ["Label"] : []), ...(item.p ? ["Score"] : []), ...(item.k ? ["Error", "Type"] : [])];
  byId("big").innerHTML = `<div id="stage">${picture(item)}</div><div class="side">
    <nav><button id="previous">\u2190 Previous</button><button id="next">Next \u2192</button><button id="close">Close</button></nav>
    <h2>${escape(item.n)}</h2><p>instance ${escape(item.id)}, ${current + 1} of ${shown.length}${item.err === null ? "" : `, mean error ${number(item.err)} of the box`}</p>
    <table><thead><tr>${heads.map((head) => `<th${head === "Score" || head === "Error" ? ' class="n"' : ""}>${head}</th>`).join("")}</tr></thead>
    <tbody>${rows.join("")}</tbody></table></div>`;
  byId("previous").onclick = () => open(current - 1);
  byId("previous").disabled = current === 0;
  byId("next").disabled = current === shown.length - 1;
  byId("next").onclick = () => open(current + 1);
  byId("close").onclick = () => byId("dialog").close();
  byId("big").querySelectorAll("tr[data-k]").forEach((row) => {
    row.onmouseenter = row.onfocus = () => mark(row, item);
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
// Pictures lie in rows; up and down look for the nearest one above or below.
function neighbour(tile, key) {
  const tiles = [...document.querySelectorAll(".tile")], place = tiles.indexOf(tile);
  if (key === "Home") return tiles[0];
  if (key === "End") return tiles[tiles.length - 1];
  if (key === "ArrowRight") return tiles[place + 1];
  if (key === "ArrowLeft") return tiles[place - 1];
  const columns = tiles.filter((other) => other.offsetTop === tiles[0].offsetTop).length;
  return tiles[place + (key === "ArrowDown" ? columns : -columns)];
}

const MOVES = ["ArrowRight", "ArrowLeft", "ArrowUp", "ArrowDown", "Home", "End"];
document.addEventListener("keydown", (event) => {
  const at = document.activeElement, isTyping = at && ["INPUT", "SELECT"].includes(at.tagName);
  const isPlain = !event.ctrlKey && !event.metaKey && !event.altKey;
  const isOpen = byId("dialog").open;
  if (isOpen && event.key === "ArrowRight") open(current + 1);
  else if (isOpen && event.key === "ArrowLeft") open(current - 1);
  else if (!isTyping && isPlain && ["t", "p"].includes(event.key.toLowerCase())) {
    const box = byId(event.key.toLowerCase() === "t" ? "truth" : "prediction");
    if (box) {
      box.checked = !box.checked;
      render();
      if (isOpen) open(current);
    }
  } else if (!isOpen && event.key === "/" && !isTyping) {
    event.preventDefault();
    byId("find").focus();
  } else if (!isOpen && !isTyping && MOVES.includes(event.key)) {
    const tile = at && at.closest(".tile");
    const next = tile ? neighbour(tile, event.key) : document.querySelector(".tile");
    if (next) {
      event.preventDefault();
      next.focus();
    }
  }
});
byId("dialog").addEventListener("close", () => {
  const tile = document.querySelector(`.tile[data-place="${current}"]`);
  if (tile) tile.focus();
});
choose();
const asked = new URLSearchParams(location.hash.slice(1)).get("open");
if (asked !== null) open(Number(asked));
