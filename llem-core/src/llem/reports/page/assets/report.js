"use strict";
// The page of a study: charts, table and pages of experiments, drawn from the JSON that stands in the file.
// Text of the study comes from others: it enters by text nodes and attributes alone, never as markup.
(() => {
const SVG = "http://www.w3.org/2000/svg";
const $ = (id) => document.getElementById(id);
const doc = JSON.parse($("llem").textContent);
const V = doc.verdict, M = doc.metrics, ALL = doc.experiments;
const byId = new Map(ALL.map((e) => [e.id, e]));
const ties = new Set(V.ties || []);
const MANY = 60; // beyond so many points a chart is drawn lightly
const PAGE = 50; // rows of the table at a time

// ---------------------------------------------------------------- nodes and text

const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
const code = (c) => { const n = c.charCodeAt(0); return n < 256 ? "\\x" + n.toString(16).padStart(2, "0") : "\\u" + n.toString(16).padStart(4, "0"); };
const clean = (text) => String(text).replace(HIDDEN, code);

function fill(node, given, kids) {
  for (const [name, value] of Object.entries(given || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : clean(value));
  }
  for (const kid of kids.flat(Infinity)) {
    if (kid === null || kid === undefined || kid === false || kid === "") continue;
    node.append(kid instanceof Node ? kid : document.createTextNode(clean(kid)));
  }
  return node;
}
const h = (tag, given, ...kids) => fill(document.createElement(tag), given, kids);
const s = (tag, given, ...kids) => fill(document.createElementNS(SVG, tag), given, kids);
let made = 0;
const unique = (stem) => `${stem}-${++made}`;
const r1 = (x) => Math.round(x * 10) / 10;
const count = (n, one, many) => `${number(n, 0, 0)} ${n === 1 ? one : many || one + "s"}`;
/** Text with `code` in it, as our own sentences have. */
const prose = (text) => clean(text).split(/`([^`]+)`/).map((part, i) => (i % 2 ? h("code", {}, part) : part));
const big = (text) => text.charAt(0).toUpperCase() + text.slice(1);

// ---------------------------------------------------------------- figures, as the terminal's tables have them

const formats = new Map();
function fixed(value, places) {
  if (!formats.has(places)) formats.set(places, new Intl.NumberFormat("en-US", { minimumFractionDigits: places, maximumFractionDigits: places }));
  return formats.get(places).format(value);
}
function decimals(value, half) {
  if (!value || !isFinite(value)) return 0;
  const top = Math.floor(Math.log10(Math.abs(value)));
  const last = half ? Math.min(Math.floor(Math.log10(half)), top) - 1 : top - 3;
  return Math.max(0, -Math.max(last, top - 5));
}
function number(value, half, places) {
  if (value && (Math.abs(value) < 1e-6 || Math.abs(value) >= 1e9)) return value.toExponential(3);
  return fixed(value, places === undefined ? decimals(value, half) : places);
}
function two(value) {
  if (!value || !isFinite(value)) return String(value);
  const last = 1 - Math.floor(Math.log10(Math.abs(value)));
  return fixed(Number(value.toPrecision(2)), Math.max(0, Math.min(last, 12)));
}
const chance = (p) => (p < 0.01 ? "< 0.01" : p > 0.99 ? "> 0.99" : p.toFixed(2));
const rate = (x) => (x === null || x === undefined ? "–" : String(Number(x.toPrecision(4))));
const pValue = (p) => (p < 1e-4 ? "< 0.0001" : two(p));
const known = (q) => Array.isArray(q) && q[0] !== null && q[0] !== undefined;
const ranged = (q) => known(q) && q[1] !== null && q[1] !== undefined && q[2] !== null && q[2] !== undefined;
function figure(q, divisor = 1) {
  if (!known(q)) return "–";
  const value = q[0] / divisor;
  if (!ranged(q)) return number(value);
  const low = q[1] / divisor, high = q[2] / divisor, half = (high - low) / 2;
  const below = value - low, above = high - value;
  if (Math.max(below, above) > 1.25 * Math.min(below, above) + 1e-12 * Math.abs(value)) return `${number(value, half)} (${number(low, half)} to ${number(high, half)})`;
  return half ? `${number(value, half)} ± ${two(half)}` : number(value);
}
const divisor = (m) => (m && m.divisor) || 1;
const unit = (m) => (m && (m.scaledUnit || m.unit)) || "";
const value = (e, name) => { const q = e.m[name]; return known(q) ? q[0] / divisor(M[name]) : null; };
const ends = (e, name) => { const q = e.m[name]; return ranged(q) ? [q[1] / divisor(M[name]), q[2] / divisor(M[name])] : null; };
const withUnit = (e, name) => `${figure(e.m[name], divisor(M[name]))} ${known(e.m[name]) ? unit(M[name]) : ""}`.trim();
const heading = (name) => { const m = M[name]; return m.heading && m.heading !== m.label && divisor(m) === 1 ? m.heading : big(m.label) + (unit(m) ? `, ${unit(m)}` : ""); };
function title(name) {
  const m = M[name];
  if (!m) return name;
  const of = [unit(m), m.basis ? `(${m.basis})` : ""].filter(Boolean).join(" ");
  return big(m.label) + (of ? `, ${of}` : "");
}
const wish = (name) => ({ less: "less is better", more: "more is better" })[M[name] && M[name].better] || "";
const reason = (codeName) => (doc.reasons && doc.reasons[codeName]) || codeName || "It was not measured.";

// ---------------------------------------------------------------- experiments in words

const WORDS = {
  choice: "the choice", tie: "tied with the choice", worse: "behind the choice",
  out: "breaks a limit", plain: "measured", invalid: "not valid",
};
const CHIPS = { choice: "choice", tie: "tied", worse: "behind", out: "breaks a limit", plain: "", invalid: "not valid" };
function standing(e) {
  if (!e.valid || e.state !== "done") return "invalid";
  if (e.id === V.choice) return "choice";
  if (ties.has(e.id)) return "tie";
  const c = (V.contenders || {})[e.id];
  if (!c) return "plain";
  const kept = c.feasible !== undefined && c.feasible !== null ? c.feasible : Math.min(1, ...(c.limits || []).map((l) => l.p));
  if (c.standing === "out" || kept < 0.5) return "out";
  return V.choice ? "worse" : "plain";
}
for (const e of ALL) e.standing = standing(e);
const axes = doc.axes || [];
const last = (path) => path.split(".").pop();
const axisName = (path) => (doc.headings && doc.headings[path]) || (axes.filter((other) => last(other) === last(path)).length > 1 ? path : last(path));
const varied = axes.filter((path) => new Set(ALL.map((e) => e.values[path])).size > 1);
function brief(e) {
  const parts = varied.filter((path) => e.values[path] !== undefined).map((path) => `${axisName(path)} ${e.values[path]}`);
  return parts.join(", ") || (varied.length ? "defaults" : e.name);
}
/** A name within a sentence: one that is written from right to left must not turn the figures that follow it. */
const named = (e, most = 60) => h("bdi", {}, cut(brief(e), most));
const cut = (text, most) => { const all = Array.from(clean(text)); return all.length > most ? all.slice(0, most - 1).join("") + "…" : all.join(""); };
const href = (id) => "#x/" + encodeURIComponent(id);
const stateWords = (e) => e.stateText || e.state + (e.valid ? "" : ", not valid");
const chip = (kind, text) => (text ? h("span", { class: "chip " + kind }, text) : null);

// ---------------------------------------------------------------- scales and axes

function linear(lo, hi, from, to) {
  const scale = (x) => from + ((x - lo) / (hi - lo)) * (to - from);
  scale.ticks = (n) => {
    const raw = (hi - lo) / Math.max(1, n), power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].find((k) => k * power >= raw) * power, found = [];
    for (let i = Math.ceil(lo / step - 1e-9); i * step <= hi + step * 1e-9; i++) found.push(i * step || 0);
    return found;
  };
  scale.lo = lo; scale.hi = hi; scale.log = false;
  return scale;
}
function logarithmic(lo, hi, from, to) {
  const a = Math.log(lo), b = Math.log(hi);
  const scale = (x) => from + ((Math.log(x) - a) / (b - a)) * (to - from);
  scale.ticks = (n) => {
    let found = [];
    for (let d = Math.floor(Math.log10(lo)); d <= Math.ceil(Math.log10(hi)); d++) for (const k of [1, 2, 5]) found.push(k * 10 ** d);
    found = found.filter((x) => x >= lo * 0.999 && x <= hi * 1.001);
    if (found.length > n + 2) found = found.filter((x) => /^1/.test(x.toExponential()));
    return found.length > 1 ? found : linear(lo, hi, 0, 1).ticks(n);
  };
  scale.lo = lo; scale.hi = hi; scale.log = true;
  return scale;
}
/** A scale over values and what more is to be seen: from zero where that costs little, in logarithms where they span much. */
function scaleOf(values, more, from, to, log) {
  const seen = values.filter((x) => x !== null && isFinite(x));
  let lo = Math.min(...seen), hi = Math.max(...seen);
  const span = hi - lo || Math.abs(hi) || 1, bottom = lo;
  for (const x of more) if (x !== null && isFinite(x)) { // an interval that is far wider than all values must not squeeze them
    if (x < lo) lo = Math.max(x, bottom - 1.5 * span);
    if (x > hi) hi = Math.min(x, bottom + 2.5 * span);
  }
  if (log && bottom > 0) {
    lo = Math.max(lo, bottom / 4);
    const pad = Math.max((hi / lo) ** 0.06, 1.05);
    return logarithmic(lo / pad, hi * pad, from, to);
  }
  const pad = (hi - lo || Math.abs(hi) || 1) * 0.07, positive = lo >= 0;
  let low = lo - pad;
  if (positive && (low < 0 || lo < 0.4 * hi)) low = 0;
  return linear(low, hi + pad, from, to);
}
const wide = (values) => { const seen = values.filter((x) => x > 0); return seen.length > 2 && seen.length === values.length && Math.max(...seen) / Math.min(...seen) > 25; };
function ticksText(ticks, log) {
  if (log) return ticks.map((x) => (x >= 1e5 || x < 1e-4 ? x.toExponential(0) : fixed(x, Math.max(0, -Math.floor(Math.log10(x) + 1e-9)))));
  const step = ticks.length > 1 ? ticks[1] - ticks[0] : ticks[0] || 1;
  const places = Math.min(10, Math.max(0, -Math.floor(Math.log10(Math.abs(step)) + 1e-9)));
  return ticks.map((x) => (Math.abs(x) >= 1e7 ? x.toExponential(1) : fixed(x, places)));
}
/** An empty chart with its axes: box, scales and a layer that is clipped to the box. */
function frame(width, height, labels, make) {
  const narrow = width < 460;
  const probe = make({ left: 0, right: 1, top: 0, bottom: 1 });
  const wideTick = Math.max(...ticksText(probe.y.ticks(5), probe.y.log).map((t) => t.length), 1);
  const box = { left: Math.max(30, 12 + wideTick * 7), right: width - (narrow ? 8 : 14), top: 30, bottom: height - 44 };
  const { x, y } = make(box);
  const ids = [unique("t"), unique("clip")];
  const svg = s("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: labels.role || "img", "aria-labelledby": ids[0] });
  svg.append(s("title", { id: ids[0] }, labels.title));
  svg.append(s("defs", {}, s("clipPath", { id: ids[1] }, s("rect", { x: box.left, y: box.top, width: box.right - box.left, height: box.bottom - box.top }))));
  const grid = s("g", { "aria-hidden": "true" });
  const yt = y.ticks(Math.max(3, Math.round((box.bottom - box.top) / 55)));
  ticksText(yt, y.log).forEach((text, i) => {
    const at = r1(y(yt[i]));
    grid.append(s("line", { class: "gridline", x1: box.left, x2: box.right, y1: at, y2: at }));
    grid.append(s("text", { x: box.left - 8, y: at + 4, "text-anchor": "end" }, text));
  });
  const xt = x.ticks(Math.max(3, Math.round((box.right - box.left) / 95)));
  ticksText(xt, x.log).forEach((text, i) => {
    const at = r1(x(xt[i]));
    grid.append(s("line", { class: "gridline", x1: at, x2: at, y1: box.top, y2: box.bottom }));
    grid.append(s("text", { x: at, y: box.bottom + 18, "text-anchor": "middle" }, text));
  });
  grid.append(s("line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }));
  const most = Math.floor((width - 8) / 7.6); // where there is no room, the title without its direction
  const fit = (text) => cut(text.length > most ? text.split(" · ")[0] : text, most);
  grid.append(s("text", { class: "title", x: 2, y: 14 }, fit(labels.y)));
  grid.append(s("text", { class: "title", x: box.right, y: height - 6, "text-anchor": "end" }, fit(labels.x)));
  svg.append(grid);
  const layer = s("g", { "clip-path": `url(#${ids[1]})` });
  svg.append(layer);
  return { svg, box, x, y, layer, taken: [] };
}
function limitLine(f, along, bound, sense, text, low = false) {
  const { box, layer, svg } = f, vertical = along === "x", scale = vertical ? f.x : f.y;
  if (bound < scale.lo || bound > scale.hi) return false;
  const at = r1(scale(bound)), id = unique("hatch");
  svg.querySelector("defs").append(s("pattern", { id, width: 8, height: 8, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" }, s("line", { class: "hatch", x1: 0, y1: 0, x2: 0, y2: 8 })));
  const area = vertical
    ? sense === "below" ? [at, box.top, box.right - at, box.bottom - box.top] : [box.left, box.top, at - box.left, box.bottom - box.top]
    : sense === "below" ? [box.left, box.top, box.right - box.left, at - box.top] : [box.left, at, box.right - box.left, box.bottom - at];
  layer.append(s("rect", { x: area[0], y: area[1], width: Math.max(0, area[2]), height: Math.max(0, area[3]), fill: `url(#${id})` }));
  layer.append(s("line", vertical ? { class: "limit", x1: at, x2: at, y1: box.top, y2: box.bottom } : { class: "limit", x1: box.left, x2: box.right, y1: at, y2: at }));
  const end = vertical ? at > (box.left + box.right) / 2 : true, w = text.length * 7.4;
  const tx = vertical ? at + (end ? -6 : 6) : box.right - 6, ty = vertical ? (low ? box.bottom - 10 : box.top + 14) : at - box.top > 24 ? at - 6 : at + 16;
  svg.append(s("text", { class: "limit-text", x: tx, y: ty, "text-anchor": end ? "end" : "start" }, text));
  f.taken.push([end ? tx - w : tx, ty - 12, end ? tx : tx + w, ty + 4]);
  return true;
}

// ---------------------------------------------------------------- charts that follow the width, tips, tables beside charts

const charts = [];
let held = null; // charts of a page that is being made: all are measured before any is drawn, so that it is laid out once
function chart(host, draw) {
  const one = { host, draw, width: 0 };
  charts.push(one);
  if (held) held.push(one); else redraw(one);
  return () => { one.width = 0; redraw(one); };
}
function together(starts) {
  held = [];
  for (const go of starts) go();
  const found = held;
  held = null;
  const widths = found.map((one) => one.host.clientWidth);
  found.forEach((one, i) => redraw(one, widths[i]));
}
function redraw(one, given) {
  const width = Math.round(given === undefined ? one.host.clientWidth : given);
  if (!width || Math.abs(width - one.width) < 3) return;
  one.width = width;
  one.host.replaceChildren(...[one.draw(Math.max(width, 250))].flat());
}
function refresh() {
  hideTip();
  for (let i = charts.length; i--;) if (charts[i].host.isConnected) redraw(charts[i]); else if (charts[i].width) charts.splice(i, 1);
}
let waiting = 0;
addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(refresh, 80); });

const tip = h("div", { class: "tip", role: "tooltip", id: "tip", hidden: true });
function showTip(node, lines) {
  tip.replaceChildren(...lines.filter(Boolean).map((line, i) => h(i ? "span" : "b", { dir: "auto" }, line)));
  tip.hidden = false;
  tip.owner = node;
  placeTip();
}
function placeTip() {
  const at = tip.owner.getBoundingClientRect(), own = tip.getBoundingClientRect();
  const x = Math.min(Math.max(8, at.left + at.width / 2 - own.width / 2), innerWidth - own.width - 8);
  const above = at.top - own.height - 10;
  tip.style.left = x + "px";
  tip.style.top = (above > 4 ? above : at.bottom + 10) + "px";
}
const hideTip = () => { tip.hidden = true; };
/** Points of a chart: one stop of the Tab key, arrows from point to point, Enter opens; tips by pointer and by focus. */
function points(layer, nodes, lines) {
  if (!nodes.length) return;
  nodes.forEach((node, i) => { node.setAttribute("tabindex", i ? "-1" : "0"); node.place = i; });
  const of = (event) => event.target.closest && event.target.closest("a");
  const show = (event) => { const node = of(event); if (node) showTip(node, lines(node)); };
  layer.addEventListener("pointerover", show);
  layer.addEventListener("focusin", show);
  layer.addEventListener("pointerout", hideTip);
  layer.addEventListener("focusout", hideTip);
  layer.addEventListener("keydown", (event) => {
    const node = of(event), step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const to = event.key === "Home" ? 0 : event.key === "End" ? nodes.length - 1 : step && node ? node.place + step : -1;
    if (!node || !nodes[to]) return;
    event.preventDefault();
    node.setAttribute("tabindex", "-1");
    nodes[to].setAttribute("tabindex", "0");
    nodes[to].focus();
  });
}
function scroll(label, ...kids) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, kids);
}
function plainTable(label, heads, rows, numeric = 1) {
  const side = (i) => (i >= numeric ? "n" : null);
  return scroll(label, h("table", {}, h("thead", {}, h("tr", {}, heads.map((t, i) => h("th", { scope: "col", class: side(i) }, t)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map((t, i) => h(i ? "td" : "th", i ? { class: side(i) } : { scope: "row" }, t)))))));
}
/** The table that says what a chart shows; made when opened. */
function alternative(label, rows) {
  const box = h("details", { class: "alt" }, h("summary", {}, "The chart as a table"));
  box.addEventListener("toggle", () => {
    while (box.children.length > 1) box.lastChild.remove();
    if (box.open) { const [heads, body, numeric] = rows(); const t = plainTable(label, heads, body, numeric); t.classList.add("tall"); box.append(t); }
  });
  return box;
}
const link = (e, text) => h("a", { href: href(e.id), dir: "auto" }, text || e.name);
function picker(label, names, chosen, changed) {
  const groups = new Map();
  for (const name of names) { const g = (M[name] && M[name].group) || ""; groups.set(g, [...(groups.get(g) || []), name]); }
  const option = (name) => h("option", { value: name, selected: name === chosen }, (() => { const u = unit(M[name]); return big((M[name] || { label: name }).label) + (u ? `, ${u}` : ""); })());
  const list = groups.size > 1 ? [...groups].map(([g, inner]) => h("optgroup", { label: big(g || "other") }, inner.map(option))) : names.map(option);
  return field(label, h("select", { onchange: (event) => changed(event.target.value) }, list));
}
function field(label, control) {
  control.id = unique("f");
  return h("div", { class: "field" }, h("label", { for: control.id }, label), control);
}
const toggle = (text, on, changed) => { const box = h("input", { type: "checkbox", onchange: () => changed(box.checked) }); box.checked = on; return h("label", { class: "check" }, box, text); };
function card(id, name, about, ...kids) {
  return h("section", { id, class: "card", "aria-labelledby": id + "-h" }, h("h2", { id: id + "-h" }, name), about && h("p", { class: "about" }, about), kids);
}

// ---------------------------------------------------------------- symbols: what a point is, by its shape

const circle = (r) => `M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z`;
const SHAPES = { choice: "M0-8.5L8.5 0 0 8.5-8.5 0Z", tie: circle(5.5), worse: circle(4.6), plain: circle(4.6), out: "M-5-5L5 5M-5 5L5-5", invalid: "M-4.5-4.5h9v9h-9Z" };
const ORDER = ["invalid", "out", "plain", "worse", "tie", "choice"];
function symbol(kind) {
  return [kind === "choice" && s("path", { class: "ring", d: circle(12) }), s("path", { class: `dot mark-${kind}`, d: SHAPES[kind] })].filter(Boolean);
}
const legend = (kinds, more = []) => h("ul", { class: "legend", "aria-label": "Key" }, kinds.map((kind) =>
  h("li", {}, s("svg", { width: 26, height: 26, viewBox: "-13 -13 26 26", "aria-hidden": "true" }, symbol(kind)), WORDS[kind])), more);
function hull(found) {
  const p = [...found].sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  if (p.length < 3) return p;
  const turn = (o, a, b) => (a[0] - o[0]) * (b[1] - o[1]) - (a[1] - o[1]) * (b[0] - o[0]);
  const half = (list) => { const kept = []; for (const q of list) { while (kept.length > 1 && turn(kept.at(-2), kept.at(-1), q) <= 0) kept.pop(); kept.push(q); } kept.pop(); return kept; };
  return [...half(p), ...half(p.reverse())];
}

// ---------------------------------------------------------------- one metric against another

const numericNames = () => Object.keys(M).filter((name) => ALL.some((e) => known(e.m[name])));
const drawnOf = (x, y) => ALL.filter((e) => known(e.m[x]) && known(e.m[y]));

function scatter(width, opt) {
  const { x: nx, y: ny } = opt, items = drawnOf(nx, ny);
  if (!items.length) return h("p", { class: "none" }, "No experiment has both.");
  const rows = items.map((e) => ({ e, x: value(e, nx), y: value(e, ny), ex: ends(e, nx), ey: ends(e, ny) }));
  const dense = rows.length > MANY;
  const limits = (V.limits || []).filter((l) => l.bound !== null && l.bound !== undefined && !l.against && (l.metric === nx || l.metric === ny));
  const bound = (l) => l.bound / divisor(M[l.metric]);
  const more = (name, key) => [...limits.filter((l) => l.metric === name).map(bound), ...(dense ? [] : rows.flatMap((r) => r[key] || []))];
  const f = frame(width, Math.round(Math.min(480, Math.max(320, width * 0.56))), {
    role: "group", title: `${title(ny)} against ${title(nx)}, ${count(rows.length, "experiment")}`,
    x: title(nx) + (wish(nx) ? ` · ${wish(nx)}` : ""), y: title(ny) + (wish(ny) ? ` · ${wish(ny)}` : ""),
  }, (b) => ({ x: scaleOf(rows.map((r) => r.x), more(nx, "ex"), b.left, b.right, opt.logX), y: scaleOf(rows.map((r) => r.y), more(ny, "ey"), b.bottom, b.top, opt.logY) }));
  const { svg, layer, box } = f;
  const outside = limits.filter((l) => !limitLine(f, l.metric === nx ? "x" : "y", bound(l), l.sense, l.text));
  for (const r of rows) {
    r.px = r1(f.x(r.x)); r.py = r1(f.y(r.y));
    if (r.ex) r.lx = r.ex.map((x) => f.x(Math.max(x, f.x.lo)));
    if (r.ey) r.ly = r.ey.map((y) => f.y(Math.max(y, f.y.lo)));
  }
  const tied = rows.filter((r) => r.e.standing === "tie" || r.e.standing === "choice");
  if (tied.length > 1 && ties.size) {
    const ring = hull(tied.map((r) => [r.px, r.py]));
    layer.append(s("g", { opacity: 0.13, "aria-hidden": "true" }, s("path", { class: "ties", "stroke-width": dense ? 26 : 44, d: "M" + ring.map((p) => p.join(" ")).join("L") + "Z" })));
  }
  const front = drawFront(f, rows, nx, ny), beyond = (scale, q) => q && (q[1] > scale.hi || q[0] < scale.lo);
  const clamp = (p) => Math.max(-50, Math.min(width + 600, r1(p)));
  for (const kind of ORDER) {
    const d = rows.filter((r) => r.e.standing === kind).map((r) =>
      (r.ex ? `M${clamp(f.x(Math.max(r.ex[0], f.x.log ? 1e-12 : -Infinity)))} ${r.py}H${clamp(f.x(r.ex[1]))}` : "") + (r.ey ? `M${r.px} ${clamp(f.y(Math.max(r.ey[0], f.y.log ? 1e-12 : -Infinity)))}V${clamp(f.y(r.ey[1]))}` : "")).join("");
    if (d) layer.append(s("path", { class: `cross ${kind}${dense ? " dense" : ""}`, d, "aria-hidden": "true" }));
  }
  rows.sort((a, b) => ORDER.indexOf(a.e.standing) - ORDER.indexOf(b.e.standing));
  const small = dense ? " scale(.72)" : "";
  const held = s("g", { role: "group", "aria-label": "Points: arrow keys go from one to the next, Enter opens the experiment" });
  for (const r of rows) {
    r.node = s("a", { href: href(r.e.id), transform: `translate(${r.px} ${r.py})${small}`,
      "aria-label": `${brief(r.e)} (${r.e.name}), ${WORDS[r.e.standing]}: ${M[nx].label} ${withUnit(r.e, nx)}, ${M[ny].label} ${withUnit(r.e, ny)}` },
    s("path", { class: "hit", d: circle(15) }), symbol(r.e.standing));
    r.node.e = r.e;
    held.append(r.node);
  }
  svg.append(held);
  points(held, [...rows].sort((a, b) => a.px - b.px).map((r) => r.node), (node) => [
    brief(node.e), `${node.e.name} · ${WORDS[node.e.standing]}`, `${big(M[ny].label)}: ${withUnit(node.e, ny)}`, `${big(M[nx].label)}: ${withUnit(node.e, nx)}`,
    (V.contenders || {})[node.e.id] && V.choice ? `P(best) = ${chance(V.contenders[node.e.id].p)}` : "",
  ]);
  names(f, rows, rows.length <= 14 ? rows : tied.slice(0, 6));
  return [svg, legend(ORDER.filter((k) => rows.some((r) => r.e.standing === k)).reverse(), opt.more), h("figcaption", {}, summary(rows, nx, ny, outside, front, rows.some((r) => beyond(f.x, r.ex) || beyond(f.y, r.ey))))];
}
/** A dotted line through those that no other betters in both, by their values alone. */
function drawFront(f, rows, nx, ny) {
  const bx = M[nx].better, by = M[ny].better;
  if (!bx || !by || nx === ny) return false;
  const good = rows.filter((r) => ["choice", "tie", "worse", "plain"].includes(r.e.standing)).sort((a, b) => (bx === "less" ? a.x - b.x : b.x - a.x) || (by === "less" ? a.y - b.y : b.y - a.y));
  const kept = [];
  for (const r of good) if (!kept.length || (by === "less" ? r.y < kept.at(-1).y : r.y > kept.at(-1).y)) kept.push(r);
  if (kept.length < 2) return false;
  f.layer.append(s("path", { class: "front", "aria-hidden": "true", d: kept.map((r, i) => (i ? `H${r.px}V${r.py}` : `M${r.px} ${r.py}`)).join("") }));
  return true;
}
function names({ svg, box, taken: before }, rows, wanted) {
  const taken = [...before, ...rows.map((r) => [r.px - 10, r.py - 10, r.px + 10, r.py + 10])];
  const lines = rows.flatMap((r) => [r.lx && [r.lx[0], r.py - 1, r.lx[1], r.py + 1], r.ly && [r.px - 1, r.ly[1], r.px + 1, r.ly[0]]]).filter(Boolean);
  const g = s("g", { "aria-hidden": "true" });
  for (const r of [...wanted].sort((a, b) => ORDER.indexOf(b.e.standing) - ORDER.indexOf(a.e.standing))) {
    const text = cut(brief(r.e), box.right > 700 ? 56 : box.right < 460 ? 24 : 34), w = Array.from(text).length * (r.e.standing === "choice" ? 7.3 : 6.7);
    const own = (t) => t[0] === r.px - 10 && t[1] === r.py - 10;
    search: for (const barred of [lines, []]) for (const [dx, dy, anchor] of [[14, 4, "start"], [-14, 4, "end"], [12, -9, "start"], [12, 18, "start"], [-12, -9, "end"], [-12, 18, "end"], [12, 30, "start"], [-12, 30, "end"], [0, -18, "middle"], [0, 28, "middle"]]) {
      const x = r.px + dx, y = r.py + dy, left = anchor === "start" ? x : anchor === "end" ? x - w : x - w / 2, rect = [left, y - 11, left + w, y + 3];
      if (rect[0] < box.left || rect[2] > box.right + 4 || rect[1] < box.top || rect[3] > box.bottom) continue;
      const meets = (t) => t[0] < rect[2] && t[2] > rect[0] && t[1] < rect[3] && t[3] > rect[1];
      if (taken.some((t) => !own(t) && meets(t)) || barred.some(meets)) continue;
      taken.push(rect);
      g.append(s("text", { class: "name" + (r.e.standing === "choice" ? " strong" : ""), x: r1(x), y: r1(y), "text-anchor": anchor }, text));
      break search;
    }
  }
  svg.append(g);
}
function summary(rows, nx, ny, outside, front, cutOff) {
  const best = (name, key) => {
    const b = M[name].better, good = rows.filter((r) => r.e.standing !== "invalid");
    if (!b || good.length < 2) return "";
    const top = good.reduce((a, r) => ((b === "less" ? r[key] < a[key] : r[key] > a[key]) ? r : a));
    return [`${b === "less" ? "Lowest" : "Highest"} `, h("bdi", {}, M[name].label), ": ", named(top.e), `, ${withUnit(top.e, name)}. `];
  };
  const missing = ALL.length - rows.length;
  return [best(ny, "y"), best(nx, "x"), [ties.size > 1 ? `Shaded: with 95 % one of these ${ties.size} is the best.` : "",
    rows.some((r) => r.ex || r.ey) ? `Crosses are 95 % intervals${cutOff ? "; those that reach the edge go on beyond it" : ""}.` : "No value has an interval.",
    front ? "Dotted: no other is better in both, by the values alone." : "",
    ...outside.map((l) => `The limit ${l.text} lies outside the chart.`),
    missing ? `${count(missing, "experiment")} without both values ${missing === 1 ? "is" : "are"} not drawn.` : ""].filter(Boolean).join(" ")];
}
function pointsTable(nx, ny) {
  return [["Experiment", title(nx), title(ny), "Standing"], drawnOf(nx, ny).slice(0, 200).map((e) => [[link(e), " ", named(e)], withUnit(e, nx), withUnit(e, ny), WORDS[e.standing]])];
}
function tradeOff() {
  const all = numericNames();
  const id = "trade-off", name = "Trade-off";
  if (!all.length) return card(id, name, "", h("p", { class: "none" }, ALL.length ? "No experiment has a value yet, so there is nothing to draw." : "The folder holds no experiment."));
  const pick = (given, other) => (all.includes(given) ? given : all.find((n) => n !== other) || all[0]);
  const state = { y: pick(doc.plot && doc.plot.y) };
  state.x = pick(doc.plot && doc.plot.x, state.y);
  const auto = (axis) => wide(drawnOf(state.x, state.y).map((e) => value(e, state[axis])));
  state.logX = auto("x"); state.logY = auto("y");
  const host = h("figure", {}), controls = h("div", { class: "controls" });
  const again = () => { show(); draw(); };
  const set = (axis) => (chosen) => { state[axis] = chosen; state.logX = auto("x"); state.logY = auto("y"); again(); };
  const show = () => {
    const had = document.activeElement && controls.contains(document.activeElement) ? [...controls.querySelectorAll("select,input,button")].indexOf(document.activeElement) : -1;
    controls.replaceChildren(picker("Upwards", all, state.y, set("y")), picker("Across", all, state.x, set("x")),
      h("button", { type: "button", onclick: () => { [state.x, state.y] = [state.y, state.x]; [state.logX, state.logY] = [state.logY, state.logX]; again(); } }, "Swap"),
      toggle("log upwards", state.logY, (on) => { state.logY = on; draw(); }), toggle("log across", state.logX, (on) => { state.logX = on; draw(); }));
    if (had >= 0) controls.querySelectorAll("select,input,button")[had].focus();
  };
  show();
  const section = card(id, name, "Any metric against any other. A point leads to its experiment.", controls, host, alternative(name, () => pointsTable(state.x, state.y)));
  let draw = () => {};
  section.start = () => { draw = chart(host, (w) => scatter(w, state)); };
  return section;
}

// ---------------------------------------------------------------- effects of axes

const change = (q) => {
  const near = q.every((x) => !x || (x > 0.5 && x < 2)); // one way of writing for a ratio and both ends of its interval
  const part = (x) => (near ? `${x < 1 ? "−" : "+"}${two(Math.abs(x - 1) * 100)} %` : `×${two(x)}`);
  return part(q[0]) + (q[1] && q[2] ? ` (${part(q[1])} to ${part(q[2])})` : "");
};
function effects() {
  const rows = (doc.effects || []).filter((x) => x.ratio > 0), id = "effects", name = "What each axis does";
  if (!rows.length) return doc.effectsNote || ALL.length > 1 ? card(id, name, "", h("p", { class: "none" }, doc.effectsNote || "No two experiments differ in one axis alone.")) : null;
  const metrics = [...new Set(rows.map((x) => x.metric))];
  let metric = metrics.includes(V.objective) ? V.objective : metrics[0];
  const host = h("div", {});
  const draw = () => host.replaceChildren(forest(rows.filter((x) => x.metric === metric), metric));
  draw();
  return card(id, name, "The ratio to the reference, all else equal, with its 95 % interval. p is corrected for the number of tests (Holm). A filled mark is a difference that the test shows; an open one may be no difference at all.",
    metrics.length > 1 && h("div", { class: "controls" }, picker("Metric", metrics, metric, (m) => { metric = m; draw(); })), host,
    doc.effectsNote && h("p", { class: "about" }, doc.effectsNote));
}
function forest(rows, metric) {
  const all = rows.flatMap((x) => [x.ratio, Math.max(x.low || x.ratio, x.ratio / 20), Math.min(x.high || x.ratio, x.ratio * 20)]);
  const reach = Math.max(1.08, ...all, ...all.map((x) => 1 / x)) ** 1.06, W = 400;
  const x = logarithmic(1 / reach, reach, 8, W - 8);
  const marks = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.8, 0.9, 1, 1.1, 1.25, 2, 5, 10, 20, 50, 100].filter((t) => t > x.lo && t < x.hi);
  const kept = [];
  for (const t of [1, ...marks.filter((t) => t !== 1)]) if (kept.every((o) => Math.abs(x(o) - x(t)) > 44)) kept.push(t);
  const head = s("svg", { viewBox: `0 0 ${W} 24`, "aria-hidden": "true" }, kept.map((t) => s("text", { x: r1(x(t)), y: 18, "text-anchor": "middle" }, "×" + t)));
  const better = M[metric] && M[metric].better;
  const body = [];
  let axis = null;
  for (const row of rows) {
    if (row.axis !== axis) body.push(h("tr", { class: "group" }, h("th", { scope: "rowgroup", colspan: 5 }, (axis = row.axis))));
    const shown = row.p !== null && row.p !== undefined && row.p < 0.05;
    const kind = !shown || !better ? "unclear" : (row.ratio < 1) === (better === "less") ? "better" : "worsen";
    const dot = r1(x(row.ratio)), from = row.low ? r1(x(Math.max(row.low, x.lo))) : dot, to = row.high ? r1(x(Math.min(row.high, x.hi))) : dot;
    const plot = s("svg", { viewBox: `0 0 ${W} 30`, role: "img", "aria-label": `ratio ${two(row.ratio)}${row.low ? `, ${two(row.low)} to ${two(row.high)}` : ""}`, class: kind },
      kept.map((t) => s("line", { class: t === 1 ? "unity" : "gridline", x1: r1(x(t)), x2: r1(x(t)), y1: 0, y2: 30 })),
      s("path", { class: "whisker", d: `M${from} 15H${to}M${from} 11v8M${to} 11v8` }), s("path", { class: "fdot" + (shown ? "" : " open"), transform: `translate(${dot} 15)`, d: "M-5-5h10v10h-10Z" }));
    body.push(h("tr", {}, h("th", { scope: "row", dir: "auto" }, `${row.value} against ${row.reference}`), h("td", { class: "plot" }, plot), h("td", { class: "n" }, change([row.ratio, row.low, row.high])),
      h("td", { class: "n p" }, row.p === null || row.p === undefined ? "–" : pValue(row.p)), h("td", { class: "verdict-cell" }, [row.verdict, row.pairs ? count(row.pairs, "pair") : ""].filter(Boolean).join(" · "))));
  }
  return h("div", { class: "forest" }, h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Effects of the axes" }, h("table", {},
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, title(metric)), h("th", { scope: "col", class: "plot" }, h("span", { class: "sr" }, "Ratio"), head), h("th", { scope: "col", class: "n" }, "Change"), h("th", { scope: "col", class: "n p" }, "p"), h("th", { scope: "col" }, "Verdict"))),
    h("tbody", {}, body))));
}

// ---------------------------------------------------------------- curves over the load

function load() {
  const curves = (doc.curves || []).filter((c) => c.points.length);
  if (!curves.length) return null;
  const have = numericNames().filter((name) => curves.some((c) => c.points.filter((id) => byId.has(id) && known(byId.get(id).m[name])).length));
  const seconds = have.filter((name) => M[name].unit === "s");
  const limited = (V.limits || []).map((l) => l.metric).find((name) => seconds.includes(name));
  const first = [V.objective, "energy_per_output_token_j", ...have].find((name) => have.includes(name));
  const second = [limited, "ttft_p99_s", "e2el_p99_s", "ttft_mean_s", ...seconds, ...have].find((name) => have.includes(name) && name !== first) || first;
  if (!first) return null;
  const key = h("ul", { class: "legend", "aria-label": "Key" }, curves.map((c, i) => h("li", {}, s("svg", { width: 34, height: 14, viewBox: "0 0 34 14", class: "s" + (i % 6), "aria-hidden": "true" }, s("path", { class: "series d" + (i % 6), d: "M1 7H33" }), s("path", { class: "sdot", transform: "translate(17 7)", d: MARKS[i % 4] })), h("span", { dir: "auto" }, c.label))));
  const panels = [first, second].map((metric, n) => {
    const host = h("figure", {}), own = { metric };
    let draw = () => {};
    const box = h("div", {}, h("div", { class: "controls" }, picker(n ? "Right panel" : "Left panel", have, metric, (m) => { own.metric = m; draw(); })), host,
      alternative("Curves over the load", () => [["Experiment", "Requests/s", title(own.metric)], curves.flatMap((c) => c.points.map((id, i) => [byId.has(id) ? link(byId.get(id)) : id, rate(c.rates[i]), byId.has(id) ? withUnit(byId.get(id), own.metric) : "–"]))]));
    box.start = () => { draw = chart(host, (w) => curvePanel(w, curves, own.metric)); };
    return box;
  });
  const section = card("load", "Energy and latency against load", "Each line is one configuration at several rates of requests.", key, h("div", { class: "panels" }, panels));
  section.start = () => panels.forEach((one) => one.start());
  return section;
}
const MARKS = [circle(4.5), "M-4-4h8v8h-8Z", "M0-5L5 4H-5Z", "M0-5.5L5.5 0 0 5.5-5.5 0Z"];
function curvePanel(width, curves, metric) {
  const lines = curves.map((c, i) => ({ c, i, at: c.points.map((id, k) => ({ e: byId.get(id), x: c.rates[k] })).filter((p) => p.e && p.x !== null && known(p.e.m[metric])).map((p) => ({ ...p, y: value(p.e, metric), ey: ends(p.e, metric) })).sort((a, b) => a.x - b.x) })).filter((l) => l.at.length);
  const all = lines.flatMap((l) => l.at);
  if (!all.length) return h("p", { class: "none" }, `No experiment of these curves has ${M[metric].label}.`);
  const limits = (V.limits || []).filter((l) => l.metric === metric && !l.against && l.bound !== null), bound = (l) => l.bound / divisor(M[metric]);
  const logY = wide(all.map((p) => p.y));
  const f = frame(width, 320, { role: "group", title: `${title(metric)} against requests a second`, x: "Requests/s", y: title(metric) },
    (b) => ({ x: scaleOf(all.map((p) => p.x), [], b.left, b.right, false), y: scaleOf(all.map((p) => p.y), [...limits.map(bound), ...all.flatMap((p) => p.ey || [])], b.bottom, b.top, logY) }));
  const outside = limits.filter((l) => !limitLine(f, "y", bound(l), l.sense, l.text));
  const held = s("g", { role: "group", "aria-label": "Points" }), nodes = [];
  for (const l of lines) {
    const g = s("g", { class: "s" + (l.i % 6) });
    g.append(s("path", { class: "series d" + (l.i % 6), d: "M" + l.at.map((p) => `${r1(f.x(p.x))} ${r1(f.y(p.y))}`).join("L") }));
    g.append(s("path", { class: "whisker", d: l.at.filter((p) => p.ey).map((p) => `M${r1(f.x(p.x))} ${r1(f.y(Math.max(p.ey[0], f.y.lo)))}V${r1(f.y(Math.min(p.ey[1], f.y.hi)))}`).join("") }));
    f.layer.append(g);
    for (const p of l.at) {
      const node = s("a", { href: href(p.e.id), class: "s" + (l.i % 6), transform: `translate(${r1(f.x(p.x))} ${r1(f.y(p.y))})`, "aria-label": `${l.c.label}, ${rate(p.x)} requests/s: ${withUnit(p.e, metric)}` },
        s("path", { class: "hit", d: circle(13) }), s("path", { class: "dot sdot", d: MARKS[l.i % 4] }));
      node.lines = [l.c.label, `${rate(p.x)} requests/s`, withUnit(p.e, metric), p.e.valid ? "" : "not valid"];
      nodes.push(node); held.append(node);
    }
  }
  f.svg.append(held);
  points(held, nodes, (node) => node.lines);
  const low = all.reduce((a, p) => (p.y < a.y ? p : a)), high = all.reduce((a, p) => (p.y > a.y ? p : a));
  return [f.svg, h("figcaption", {}, `From ${withUnit(low.e, metric)} at ${rate(low.x)} requests/s to ${withUnit(high.e, metric)} at ${rate(high.x)} requests/s. ${outside.map((l) => `The limit ${l.text} lies outside the chart. `).join("")}${logY ? "The scale is logarithmic." : ""}`)];
}

// ---------------------------------------------------------------- quality against energy, and the wall clock

function quality() {
  const tasks = numericNames().filter((name) => (M[name].group === "quality" || name.startsWith("quality.")));
  const changes = (doc.quality || []).filter((q) => byId.has(q.id));
  if (!tasks.length && !changes.length) return null;
  const all = numericNames(), energy = [V.objective, "energy_per_output_token_j", ...all].find((name) => all.includes(name) && !tasks.includes(name));
  const section = card("quality", "Quality against energy", "Scores of each engine configuration beside what it costs. A change is against the reference, item by item.");
  const starts = [];
  if (tasks.length && energy && drawnOf(energy, tasks[0]).length) {
    const state = { x: energy, y: tasks.find((name) => (doc.quality || []).some((q) => q.task === name)) || tasks[0] }, host = h("figure", {});
    let draw = () => {};
    section.append(h("div", { class: "controls" }, picker("Task", tasks, state.y, (m) => { state.y = m; draw(); })), host, alternative("Quality against energy", () => pointsTable(state.x, state.y)));
    starts.push(() => { draw = chart(host, (w) => scatter(w, state)); });
  }
  if (changes.length) section.append(h("h3", {}, "Changes against the reference"), plainTable("Changes of quality", ["Experiment", "Task", "Change (95 %)", "p", "Verdict"], changes.slice(0, 100).map((q) => {
    const m = M[q.task] || { label: q.task };
    return [[link(byId.get(q.id)), " ", named(byId.get(q.id))], m.label, known(q.change) ? signed(q.change, divisor(m)) : q.id === q.reference ? "the reference" : "–", q.p === null || q.p === undefined ? "–" : pValue(q.p), q.verdict || q.why || ""];
  }), 2));
  if (doc.qualityNote) section.append(h("p", { class: "about" }, doc.qualityNote));
  section.start = () => starts.forEach((go) => go());
  return section;
}
const signed = (q, by) => (q[0] > 0 ? "+" : "") + figure(q, by).replace(/-/g, "−");

function wallClock() {
  const parts = (doc.time || []).filter((p) => p.seconds > 0), total = parts.reduce((sum, p) => sum + p.seconds, 0);
  if (!total) return doc.timeNote ? card("time", "Where the time went", "", h("p", { class: "none" }, doc.timeNote)) : null;
  const lostTime = parts.filter((p) => p.part === "unknown").reduce((sum, p) => sum + p.seconds, 0);
  if (lostTime > 0.9 * total) return card("time", "Where the time went", "", h("p", { class: "none" }, `Not known: the folder holds no events that say what ${duration(lostTime)} of engine processes went into.`));
  const cls = (i) => (i < 6 ? "s" + i : "rest"), share = (p) => `${two((p.seconds / total) * 100)} %`;
  const sorted = [...parts].sort((a, b) => b.seconds - a.seconds);
  let at = 0;
  const bar = s("svg", { class: "chart stack", viewBox: "0 0 1000 34", preserveAspectRatio: "none", height: 34, role: "img", "aria-label": "Shares of the wall clock: " + sorted.map((p) => `${p.part} ${share(p)}`).join(", ") },
    sorted.map((p, i) => { const w = (p.seconds / total) * 1000, x = at; at += w; return s("g", { class: cls(i) }, s("rect", { x: r1(x), y: 0, width: r1(w), height: 34 }, s("title", {}, `${p.part}: ${duration(p.seconds)}, ${share(p)}`))); }));
  const table = scroll("Where the time went", h("table", {}, h("thead", {}, h("tr", {}, ["Part", "Time", "Share", "What it is"].map((t, i) => h("th", { scope: "col", class: i === 1 || i === 2 ? "n" : null }, t)))),
    h("tbody", {}, sorted.map((p, i) => h("tr", { class: cls(i) }, h("th", { scope: "row" }, h("span", { class: "swatch" }), p.part), h("td", { class: "n" }, duration(p.seconds)), h("td", { class: "n" }, share(p)), h("td", {}, p.doc || ""))))));
  return card("time", "Where the time went", `${duration(total)} of engine processes in all. ${doc.timeNote || ""}`, h("figure", {}, bar), h("p", {}), table);
}
function duration(seconds) {
  if (seconds < 90) return `${seconds < 10 ? two(seconds) : Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

// ---------------------------------------------------------------- the table of experiments

function table() {
  const metricNames = Object.keys(M), showAxes = varied.length <= 3 && innerWidth > 640;
  const columns = [
    ...varied.map((path) => ({ key: "axis:" + path, head: axisName(path), group: "Axes", on: showAxes, sort: (e) => e.values[path] ?? "", cell: (e) => (e.values[path] === undefined ? h("span", { class: "dash" }, "default") : h("span", { dir: "auto" }, e.values[path])) })),
    ...(V.choice ? [{ key: "p", head: "P(best)", group: "Decision", on: true, n: true, sort: (e) => ((V.contenders || {})[e.id] || {}).p ?? null, cell: (e) => { const c = (V.contenders || {})[e.id]; return c ? chance(c.p) : h("span", { class: "dash" }, "–"); } }] : []),
    ...metricNames.map((name) => ({ key: name, head: heading(name), doc: [M[name].doc, M[name].basis].filter(Boolean).join(" · "), basis: M[name].basis, group: M[name].group || "other", on: doc.columns.includes(name), n: true, sort: (e) => value(e, name), cell: (e) => metricCell(e, name) })),
    { key: "trials", head: "Trials", group: "State", on: false, n: true, sort: (e) => e.trials, cell: (e) => String(e.trials) },
    { key: "findings", head: "Findings", group: "State", on: false, sort: (e) => e.codes.join(" "), cell: (e) => e.codes.join(", ") || "none" },
    { key: "state", head: "State", group: "State", on: ALL.some((e) => e.publishable), sort: (e) => e.state, cell: (e) => [e.state === "done" ? (e.publishable ? "publishable" : e.valid ? "valid" : chip("invalid", "not valid")) : h("span", { title: e.error || null }, chip("failed", e.state))] },
  ];
  const st = { sort: V.objective && M[V.objective] && doc.columns.includes(V.objective) ? V.objective : null, up: !(M[V.objective] && M[V.objective].better === "more"), page: 0, text: "", where: {} };
  const body = h("tbody", {}), head = h("tr", {}), live = h("p", { role: "status", class: "about" }), pager = h("div", { class: "pager" });
  const hay = new Map();
  const text = (e) => { if (!hay.has(e.id)) hay.set(e.id, clean([e.name, e.id, e.label, brief(e), stateWords(e), CHIPS[e.standing], e.codes.join(" ")].join(" ")).toLowerCase()); return hay.get(e.id); };
  const matches = () => {
    const words = st.text.toLowerCase().split(/\s+/).filter(Boolean), where = Object.entries(st.where).filter(([, want]) => want !== "");
    const found = ALL.filter((e) => words.every((w) => text(e).includes(w)) && where.every(([key, want]) => FILTERS[key](e) === want));
    const by = st.sort === "name" ? { sort: (e) => e.name } : columns.find((c) => c.key === st.sort);
    if (!by) return found;
    const keyed = found.map((e, i) => [by.sort(e), i, e]), way = st.up ? 1 : -1;
    const numeric = keyed.every(([k]) => k === null || typeof k === "number" || k === "" || !isNaN(k));
    keyed.sort(([a, i], [b, j]) => {
      const none = (k) => k === null || k === "";
      if (none(a) || none(b)) return none(a) && none(b) ? i - j : none(a) ? 1 : -1; // what has no value is last either way
      return (numeric ? a - b : String(a).localeCompare(String(b), "en", { numeric: true })) * way || i - j;
    });
    return keyed.map(([, , e]) => e);
  };
  const FILTERS = { state: (e) => e.state, standing: (e) => e.standing };
  for (const path of varied) FILTERS["axis:" + path] = (e) => e.values[path] ?? "\u0000default";
  const row = (e, shown) => h("tr", {}, h("th", { scope: "row", class: shown.some((c) => c.key.startsWith("axis:")) ? null : "full" },
    h("span", { class: "id" }, h("a", { href: href(e.id), class: "mono" }, e.name), " ", chip(e.standing, e.state === "done" ? CHIPS[e.standing] : e.state)), shown.some((c) => c.key.startsWith("axis:")) ? null : h("div", { dir: "auto" }, brief(e) === e.name ? e.label : brief(e))),
  shown.map((c) => h("td", { class: c.n ? "n" : null }, c.cell(e))));
  const order = (key) => { if (st.sort === key) st.up = !st.up; else { st.sort = key; st.up = !(M[key] && M[key].better === "more") && key !== "p"; } st.page = 0; draw(); head.querySelector(`[data-key="${CSS.escape(key)}"]`).focus(); };
  const th = (key, name, more = {}) => h("th", { scope: "col", class: more.n ? "n" : null, title: more.doc || null, "aria-sort": st.sort === key ? (st.up ? "ascending" : "descending") : null },
    h("button", { type: "button", "data-key": key, onclick: () => order(key) }, name, more.basis ? h("span", { class: "dash" }, ` (${more.basis})`) : null, h("span", { "aria-hidden": "true" }, st.sort === key ? (st.up ? " ↑" : " ↓") : "")));
  let all = false; // in print every row
  const draw = () => {
    const shown = columns.filter((c) => c.on), found = matches(), pages = Math.max(1, Math.ceil(found.length / PAGE));
    st.page = Math.min(st.page, pages - 1);
    head.replaceChildren(th("name", "Experiment"), ...shown.map((c) => th(c.key, c.head, c)));
    const part = all ? found : found.slice(st.page * PAGE, (st.page + 1) * PAGE);
    body.replaceChildren(...part.map((e) => row(e, shown)));
    live.textContent = found.length === ALL.length ? `${count(ALL.length, "experiment")}.` : `${fixed(found.length, 0)} of ${count(ALL.length, "experiment")} match.`;
    const turn = (by) => () => { st.page += by; draw(); };
    pager.hidden = pages < 2;
    pager.replaceChildren(h("button", { type: "button", disabled: st.page === 0, onclick: turn(-1) }, "Previous"), h("span", {}, `Page ${st.page + 1} of ${pages}`), h("button", { type: "button", disabled: st.page >= pages - 1, onclick: turn(1) }, "Next"));
  };
  const changed = () => { st.page = 0; draw(); };
  const search = h("input", { type: "search", placeholder: "Name, setting, state, finding", oninput: () => { st.text = search.value; changed(); } });
  const choices = (key, label, options) => field(label, h("select", { onchange: (event) => { st.where[key] = event.target.value; changed(); } }, h("option", { value: "" }, "all"), options.map(([v, t]) => h("option", { value: v }, t))));
  const distinct = (key) => [...new Set(ALL.map(FILTERS[key]))];
  const filters = [distinct("state").length > 1 && choices("state", "State", distinct("state").map((v) => [v, v])),
    distinct("standing").length > 1 && choices("standing", "Standing", ORDER.filter((k) => distinct("standing").includes(k)).reverse().map((k) => [k, WORDS[k]])),
    ...varied.filter((path) => distinct("axis:" + path).length <= 30).map((path) => choices("axis:" + path, axisName(path), distinct("axis:" + path).sort((a, b) => a.localeCompare(b, "en", { numeric: true })).map((v) => [v, v === "\u0000default" ? "default" : v])))].filter(Boolean);
  const chooser = h("details", {}, h("summary", {}, "Columns"));
  chooser.addEventListener("toggle", () => {
    if (chooser.children.length > 1) return;
    const groups = [...new Set(columns.map((c) => c.group))];
    chooser.append(h("div", { class: "checks" }, groups.map((g) => h("fieldset", {}, h("legend", {}, big(g)), columns.filter((c) => c.group === g).map((c) => {
      const box = h("input", { type: "checkbox", onchange: () => { c.on = box.checked; draw(); } }); box.checked = c.on;
      return h("label", {}, box, M[c.key] ? title(c.key) : c.head);
    })))));
  });
  const few = filters.slice(0, 4), rest = filters.slice(4);
  draw();
  addEventListener("beforeprint", () => { all = true; draw(); });
  addEventListener("afterprint", () => { all = false; draw(); });
  return [ALL.length > 1 && h("div", { class: "controls" }, field("Filter", search), few), rest.length ? h("details", {}, h("summary", {}, "More filters"), h("div", { class: "controls" }, rest)) : null,
    live, scroll("Experiments", h("table", {}, h("caption", { class: "sr" }, "Experiments; a heading sorts"), h("thead", {}, head), body)), pager, chooser, (doc.notes || []).length ? h("ul", { class: "plain notes" }, doc.notes.map((line) => h("li", {}, prose(worded(line))))) : null];
}
/** A sentence with the codes of findings in it in words. */
const worded = (line) => Object.entries(doc.findings || {}).reduce((text, [name, one]) => text.replace(new RegExp(`\\b${name}\\b`, "g"), () => one.title || name), line);
function metricCell(e, name) {
  const q = e.m[name];
  if (known(q)) return figure(q, divisor(M[name]));
  const why = typeof q === "string" ? reason(q) : reason("");
  return h("span", { class: "dash", title: why }, "–", h("span", { class: "sr" }, ` no value: ${why}`));
}

// ---------------------------------------------------------------- one experiment

let opened = null;
function experiment(id) {
  const e = byId.get(id), at = ALL.indexOf(e), host = $("one");
  const go = (to, text) => (to ? h("a", { href: href(to.id), title: brief(to) }, text) : null);
  const crumbs = h("nav", { class: "crumbs", "aria-label": "Experiments" }, h("a", { href: "#experiments", id: "back" }, "← All experiments"), h("span", { class: "push" }, go(ALL[at - 1], "← Previous"), go(ALL[at + 1], "Next →")));
  if (!e) { host.replaceChildren(crumbs, h("section", { class: "card" }, h("h1", { tabindex: "-1" }, "No such experiment"), h("p", { class: "none" }, `This report has no experiment ${cut(id, 80)}.`))); return; }
  const raw = $("x-" + id), d = raw ? JSON.parse(raw.textContent) : {};
  const c = (V.contenders || {})[id];
  const starts = [];
  const top = h("section", { class: "card", "aria-labelledby": "one-h" },
    h("h1", { id: "one-h", tabindex: "-1" }, h("span", { dir: "auto" }, brief(e) === e.name ? e.label : brief(e))),
    h("p", { class: "chips" }, h("code", {}, e.name), chip(e.standing, CHIPS[e.standing]), e.state === "done" ? null : chip("failed", e.state), e.publishable ? chip("good", "publishable") : null,
      h("span", { class: "about" }, [e.configuration || (brief(e) === e.name ? "" : e.label), stateWords(e), e.restsOn].filter(Boolean).join(" · "))),
    c && c.why ? h("p", {}, `P(best) = ${chance(c.p)}: ${c.why}.`) : c && V.choice ? h("p", {}, `P(best) = ${chance(c.p)}.`) : null,
    e.error ? h("p", { class: "error-text" }, e.error) : null, lost(e, d), facts(e, d));
  const sections = [top, findings(e, d), power(d, starts), latencies(d, starts), energies(d), configuration(d), environment(d), statement(d)].filter(Boolean);
  if (!raw) sections.push(h("section", { class: "card" }, h("p", { class: "none" }, "This report holds no more of it.")));
  host.replaceChildren(crumbs, ...sections);
  together(starts);
}
function lost(e, d) {
  const lines = (d.damaged || []).filter((line) => line !== e.error);
  return lines.length ? h("details", {}, h("summary", {}, `${count(lines.length, "part")} of what is stored cannot be read`), lines.map((line) => h("p", { class: "error-text" }, line))) : null;
}
function facts(e, d) {
  const list = d.figures && d.figures.length ? d.figures : doc.columns.filter((n) => M[n]).map((n) => [big(M[n].label), known(e.m[n]) ? withUnit(e, n) : "–", known(e.m[n]) ? M[n].basis || "" : reason(e.m[n])]);
  return list.length ? h("dl", { class: "facts" }, list.map(([label, text, of]) => h("div", {}, h("dt", {}, big(label)), h("dd", {}, text, of ? h("small", {}, of) : null)))) : null;
}
function findings(e, d) {
  const weight = { error: 0, warning: 1, info: 2 };
  const list = [...(d.findings || e.codes.map((one) => ({ code: one, ...(doc.findings || {})[one] })))].sort((a, b) => (weight[a.severity] ?? 1) - (weight[b.severity] ?? 1));
  if (!list.length) return h("section", { class: "card" }, h("h2", {}, "Findings"), h("p", { class: "none" }, e.valid ? "None: nothing speaks against these numbers." : "None is stored."));
  return h("section", { class: "card" }, h("h2", {}, "Findings"), list.map((one) => h("div", { class: "finding " + (["error", "info"].includes(one.severity) ? one.severity : "warning") },
    h("p", {}, h("strong", {}, big(one.severity || "warning") + ": "), prose(one.message || one.meaning || one.title || one.code), " ", h("span", { class: "tag" }, one.code)), one.meaning && one.message ? h("p", { class: "advice" }, prose(one.meaning)) : null, one.advice ? h("p", {}, h("strong", {}, "What to do: "), prose(one.advice)) : null)));
}
function power(d, starts) {
  const traces = d.traces || [];
  if (!traces.length) return h("section", { class: "card" }, h("h2", {}, "Power over time"), h("p", { class: "none" }, d.tracesNote || "No power trace is stored for this experiment."));
  const key = (t) => `${t.process ?? 0}/${t.trial}`, trials = [...new Set(traces.map(key))];
  let chosen = trials[0];
  const host = h("figure", {}), many = new Set(traces.map((t) => t.process ?? 0)).size > 1;
  const name = (k) => { const [p, t] = k.split("/"); return `trial ${t}` + (many ? `, process ${p}` : ""); };
  let draw = () => {};
  const section = h("section", { class: "card" }, h("h2", {}, "Power over time"), h("p", { class: "about" }, "Only the window counts. Around it the same work runs on, so that its edges measure no beginning and no end. Marks on the lower edge are the ticks of the energy counter."),
    trials.length > 1 && h("div", { class: "controls" }, field("Trial", h("select", { onchange: (event) => { chosen = event.target.value; draw(); } }, trials.map((k) => h("option", { value: k }, name(k)))))), host,
    d.tracesLeftOut ? h("p", { class: "about" }, `${count(d.tracesLeftOut, "further trace")} ${d.tracesLeftOut === 1 ? "is" : "are"} left out of this file.`) : null);
  starts.push(() => { draw = chart(host, (w) => trace(w, traces.filter((t) => key(t) === chosen), name(chosen))); });
  return section;
}
function trace(width, list, name) {
  const t = list.flatMap((one) => one.t), w = list.flatMap((one) => one.w).filter((x) => x !== null);
  if (!t.length || !w.length) return h("p", { class: "none" }, "This trial has no readings.");
  const win = list[0].window || [Math.min(...t), Math.max(...t)];
  const from = Math.min(win[0], ...list.flatMap((o) => o.lead || []), Math.min(...t)), to = Math.max(win[1], ...list.flatMap((o) => o.after || []), Math.max(...t));
  const f = frame(width, 300, { title: `Power of ${name}`, x: "Seconds from the window's beginning", y: "Power, W" }, (b) => ({ x: linear(from - (to - from) * 0.01, to + (to - from) * 0.01, b.left, b.right), y: scaleOf(w, [0, Math.max(...w) * 1.1], b.bottom, b.top, false) }));
  const { layer, box } = f, rect = (cls, a, b) => layer.append(s("rect", { class: cls, x: r1(f.x(a)), y: box.top, width: Math.max(0, r1(f.x(b) - f.x(a))), height: box.bottom - box.top }));
  rect("window", win[0], win[1]);
  const parts = list[0].parts || [];
  parts.forEach(([, a, b]) => rect("window", a, b));
  const lead = list.map((o) => o.lead).find(Boolean), after = list.map((o) => o.after).find(Boolean);
  if (lead) rect("leadin", lead[0], lead[1]);
  if (after) rect("leadin", after[0], after[1]);
  layer.append(s("path", { class: "edge", d: win.map((x) => `M${r1(f.x(x))} ${box.top}V${box.bottom}`).join("") }));
  const region = (text, [a, b]) => { const from = r1(f.x(a)), to = r1(f.x(b)); if (to - from > text.length * 7) f.svg.append(s("text", { class: "name", x: (from + to) / 2, y: box.top + 14, "text-anchor": "middle" }, text)); };
  const ticks = list.flatMap((o) => o.ticks || []);
  if (ticks.length) layer.append(s("path", { class: "tick", d: ticks.map((x) => `M${r1(f.x(x))} ${box.bottom}v-10`).join("") }));
  list.forEach((one, i) => {
    let d = "";
    one.t.forEach((x, k) => {
      if (one.w[k] === null) return;
      const px = r1(f.x(x)), py = r1(f.y(one.w[k]));
      if (one.step) { const start = k ? one.t[k - 1] : (one.ticks && one.ticks[0] < x ? one.ticks[0] : x); d += `${d ? "L" : "M"}${r1(f.x(start))} ${py}H${px}`; } else d += `${d ? "L" : "M"}${px} ${py}`;
    });
    layer.append(s("path", { class: `series thin s${i % 6} d${i % 6}`, d }));
  });
  region(parts.length ? "whole" : "window", win);
  parts.forEach(([part, a, b]) => region(part, [a, b]));
  if (lead) region("idle and lead-in", lead);
  if (after) region("lead-out", after);
  const says = (one) => [brieflyOf(one.domain), `${one.meter}: ${one.reading === "counter" ? "mean power between ticks of its energy counter" : "readings of its power"}`, one.kind].filter(Boolean).join(" · ");
  return [f.svg, h("ul", { class: "legend", "aria-label": "Key" }, list.map((one, i) => h("li", {}, s("svg", { width: 28, height: 10, viewBox: "0 0 28 10", class: "s" + (i % 6), "aria-hidden": "true" }, s("path", { class: "series d" + (i % 6), d: "M1 5H27" })), says(one)))),
    h("figcaption", {}, list.map((one) => `${brieflyOf(one.domain)}, ${one.reading === "counter" ? "counter" : "power"}: ${fixed(Math.min(...one.w), 0)} W to ${fixed(Math.max(...one.w), 0)} W in ${count(one.points || one.t.length, "reading")}.`).slice(0, 4).join(" "), ` The window lasts ${two(win[1] - win[0])} s.`)];
}
/** The name of a domain without the further digits of a GPU's id, which nobody reads. */
const brieflyOf = (domain) => String(domain).replace(/(GPU-[0-9a-f]{8})-[0-9a-f-]{27}/i, "$1");
function latencies(d, starts) {
  const list = (d.latencies || []).map((one) => ({ ...one, long: one.label, label: one.heading || one.label, quantiles: one.quantiles || [] })).filter((one) => one.quantiles.length || Object.values(one.stated || {}).some(known));
  if (!list.length) return null;
  const hosts = list.map((one) => {
    const host = h("figure", {});
    if (one.quantiles.length) starts.push(() => chart(host, (w) => distribution(w, one)));
    const stated = Object.entries(one.stated || {}).filter(([, q]) => known(q));
    const [by, u] = timeUnit(one), rows = () => [["Figure", `${one.label}, ${u}`], stated.map(([name, q]) => [name, figure(q, by)])];
    return h("div", {}, h("h3", {}, big(one.long) + (one.n ? ` · ${count(one.n, "request")}` : "")), one.quantiles.length ? host : plainTable(one.label, ...rows()), one.quantiles.length && stated.length ? alternative(one.label, rows) : null);
  });
  return h("section", { class: "card" }, h("h2", {}, "Latencies"), h("p", { class: "about" }, "The share of requests that took at most so long. Marked: the percentiles that are stated, with their intervals."), h("div", { class: "panels" }, hosts));
}
function timeUnit(one) {
  const seen = [...one.quantiles.map((q) => q[1]), ...Object.values(one.stated || {}).filter(known).map((q) => q[0])];
  return one.unit !== "s" || seen.some((x) => x >= 0.5) ? [1, one.unit] : [1e-3, "ms"];
}
function distribution(width, one) {
  const [by, u] = timeUnit(one);
  const xs = one.quantiles.map((q) => q[1] / by);
  const stated = Object.entries(one.stated || {}).filter(([name, q]) => known(q) && /^p\d/.test(name)).map(([name, q]) => ({ name, q: q.map((x) => (x === null || x === undefined ? null : x / by)), share: share(name) }));
  const limit = (V.limits || []).filter((l) => !l.against && l.bound && l.text.toLowerCase().startsWith(one.label.toLowerCase()) && M[l.metric] && M[l.metric].unit === one.unit);
  const f = frame(width, 250, { title: `Distribution of ${one.label}`, x: `${one.label}, ${u}`, y: "Share of requests" }, (b) => ({ x: scaleOf(xs, [...stated.flatMap((p) => p.q), ...limit.map((l) => l.bound / by)], b.left, b.right, wide(xs)), y: linear(0, 1, b.bottom, b.top) }));
  limit.forEach((l) => limitLine(f, "x", l.bound / by, l.sense, l.text, true));
  f.layer.append(s("path", { class: "series s0", d: "M" + one.quantiles.map((q) => `${r1(f.x(q[1] / by))} ${r1(f.y(q[0]))}`).join("L") }));
  for (const p of stated) {
    const py = r1(f.y(p.share));
    f.svg.append(s("g", { class: "s0" }, p.q[1] !== null && p.q[1] !== undefined ? s("path", { class: "whisker", d: `M${r1(f.x(Math.max(p.q[1], f.x.lo)))} ${py}H${r1(f.x(Math.min(p.q[2], f.x.hi)))}` }) : null, s("path", { class: "sdot", transform: `translate(${r1(f.x(p.q[0]))} ${py})`, d: circle(4.2) })));
    const side = { p50: [-9, -7, "end"], p90: [9, 16, "start"], p99: [0, -9, "middle"] }[p.name]; // p95 lies between, too near to be written at
    if (side) f.svg.append(s("text", { class: "name", x: r1(f.x(p.q[0])) + side[0], y: py + side[1], "text-anchor": side[2], "aria-hidden": "true" }, p.name));
  }
  return [f.svg, h("figcaption", {}, stated.map((p) => `${p.name} ${figure(p.q)} ${u}`).join(" · ") || `Median ${figure([xs[Math.floor(xs.length / 2)]])} ${u}.`)];
}
const share = (name) => Number("0." + name.slice(1).replace(".", ""));
const ERRORS = {
  tick: "One step of the counter at each edge of the window.", gap: "The time between the window's edge and the reading beside it.",
  repeat: "How trials scatter.", sensor: "The accuracy that the sensor's maker states.", baseline: "The uncertainty of the idle power that net energy subtracts.",
};
function energies(d) {
  const list = d.energies || [];
  if (!list.length) return null;
  const shares = (row) => Object.entries(row.budget || {}).map(([part, joules]) => [part, joules === null || !known(row.gross) || !row.gross[0] ? null : Math.abs(joules / row.gross[0])]);
  const parts = Object.keys(ERRORS).filter((part) => list.some((row) => shares(row).some((b) => b[0] === part && b[1] !== null)));
  const most = Math.max(1e-12, ...list.flatMap((row) => shares(row).map((b) => b[1] || 0)));
  const cell = (row, part) => {
    const found = shares(row).find((b) => b[0] === part);
    if (!found || found[1] === null) return [h("span", {}, part), h("span", { class: "dash" }, "not known")];
    return [h("span", { title: ERRORS[part] }, part), h("span", { class: "bars" }, s("svg", { class: "budget", viewBox: "0 0 60 10", "aria-hidden": "true" }, s("rect", { class: "bed", width: 60, height: 10, rx: 2 }), s("rect", { width: r1(Math.max(1, (found[1] / most) * 60)), height: 10, rx: 2 })), found[1] < 1e-4 ? "< 0.01 %" : `± ${two(found[1] * 100)} %`)];
  };
  const q = (x, u) => (known(x) ? `${figure(x)} ${u}`.trim() : h("span", { class: "dash", title: x ? reason(x) : null }, "–", x ? h("span", { class: "sr" }, ` no value: ${reason(x)}`) : null));
  const columns = [["gross", "Energy of a trial", "J"], ["net", "Above idle", "J"], ["power", "Mean power", "W"], ["idle", "Idle power", "W"], ["cross", "Second instrument / first", ""]].filter(([key]) => list.some((row) => known(row[key])));
  return h("section", { class: "card" }, h("h2", {}, "Energy by domain"), h("p", { class: "about" }, "What each meter saw, and by how much each source of error may move its energy."),
    scroll("Energy by domain", h("table", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Domain"), h("th", { scope: "col" }, "Meter"), columns.map(([, t]) => h("th", { scope: "col", class: "n" }, t)), parts.length ? h("th", { scope: "col" }, "Sources of error") : null)),
      h("tbody", {}, list.map((row) => h("tr", {}, h("th", { scope: "row", title: row.domain }, brieflyOf(row.domain), h("div", { class: "dash" }, [row.kind, row.scope].filter(Boolean).join(" · "))), h("td", {}, row.meter, row.instrument && row.instrument !== row.meter ? h("div", { class: "dash" }, row.instrument) : null), columns.map(([key, , u]) => h("td", { class: "n" }, q(row[key], u))), parts.length ? h("td", {}, h("div", { class: "errors" }, parts.map((p) => cell(row, p)))) : null))))),
    parts.length ? h("details", {}, h("summary", {}, "What the sources of error are"), h("dl", {}, parts.map((p) => [h("dt", {}, h("strong", {}, big(p))), h("dd", {}, ERRORS[p])]))) : null);
}
function configuration(d) {
  const list = d.config || [];
  if (!list.length) return null;
  const reference = byId.get(d.reference), differing = list.filter((row) => row[3]);
  let all = !differing.length;
  const host = h("div", {});
  const draw = () => host.replaceChildren(scroll("Configuration", h("table", { class: "settings" }, h("thead", {}, h("tr", {}, ["Setting", "Value", "From"].map((t) => h("th", { scope: "col" }, t)))),
    h("tbody", {}, (all ? list : differing).map(([path, text, source, differs]) => h("tr", { class: differs && all ? "differs" : null }, h("th", { scope: "row" }, h("code", {}, path), differs && all ? h("span", { class: "sr" }, " differs") : null), h("td", { dir: "auto" }, text), h("td", { class: "dash" }, source || "")))))));
  draw();
  return h("section", { class: "card" }, h("h2", {}, "Configuration"),
    h("p", { class: "about" }, differing.length ? ["It differs in ", count(differing.length, "setting"), " from ", reference ? link(reference, `${reference.name}: ${brief(reference)}`) : "the reference", "."] : reference && d.reference !== opened ? "It differs in no setting from the reference." : "It is the reference that others are compared with."),
    differing.length ? h("div", { class: "controls" }, toggle(`all ${count(list.length, "setting")}`, all, (on) => { all = on; draw(); })) : null, host,
    pairs("What the engine used in effect", d.effective));
}
function pairs(name, list) {
  if (!list || !list.length) return null;
  return h("details", { class: list.length > 80 ? "long" : null }, h("summary", {}, name), scroll(name, h("table", {}, h("tbody", {}, list.map(([key, text]) => h("tr", {}, h("th", { scope: "row" }, key), h("td", {}, text)))))));
}
const environment = (d) => (d.environment && d.environment.length ? h("section", { class: "card" }, h("h2", {}, "Environment"), pairs("Hardware and software", d.environment)) : null);
function statement(d) {
  if (!d.method || !d.method.length) return null;
  return h("section", { class: "card" }, h("h2", {}, "Method"), h("div", { class: "statement" }, d.method.map((line) => h("p", {}, line))), copier(() => [...d.method, doc.cite].filter(Boolean).join("\n")));
}
function copier(text) {
  const said = h("span", { role: "status", class: "about" });
  const done = (ok) => { said.textContent = ok ? " Copied." : " Copying is not allowed here: select the text."; };
  return h("p", { class: "copy" }, h("button", { type: "button", onclick: () => (navigator.clipboard ? navigator.clipboard.writeText(text()).then(() => done(true), () => done(false)) : done(false)) }, "Copy the statement"), said);
}

// ---------------------------------------------------------------- the page: what stands where, and the way between

function bars() {
  const ranked = Object.entries(V.contenders || {}).filter(([id]) => byId.has(id)).sort((a, b) => b[1].p - a[1].p || (a[0] === V.choice ? -1 : 0));
  if (!V.choice || ranked.length < 2) return;
  const top = ranked.slice(0, 6), rest = ranked.length - top.length;
  $("standing").append(h("div", { class: "pbars" }, h("h3", {}, "Probability of being the best"), top.map(([id, c]) => {
    const e = byId.get(id);
    return [h("a", { href: href(id), title: brief(e), dir: "auto" }, brief(e)),
      s("svg", { viewBox: "0 0 100 12", preserveAspectRatio: "none", "aria-hidden": "true", class: e.standing === "choice" || e.standing === "tie" ? "s0" : "rest" }, s("rect", { class: "gridline", x: 0, y: 5.5, width: 100, height: 1 }), s("rect", { class: "area", x: 0, y: 1, width: Math.max(0.6, c.p * 100), height: 10 })),
      h("span", { class: "n" }, chance(c.p))];
  }), rest > 0 ? h("p", { class: "about" }, `and ${count(rest, "other")}, each with ${chance(top.at(-1)[1].p)} or less`) : null));
}
const place = { scroll: 0, id: null };
function route() {
  const hash = location.hash, id = hash.startsWith("#x/") ? decode(hash.slice(3)) : null;
  hideTip();
  if (id !== null) {
    if (opened === null) place.scroll = scrollY;
    opened = id; place.id = id;
    $("overview").hidden = true; $("one").hidden = false;
    experiment(id);
    const e = byId.get(id);
    document.title = `${e ? clean(brief(e)) : "No such experiment"} · ${clean(doc.title)}`;
    scrollTo({ top: 0, behavior: "instant" });
    $("one").querySelector("h1").focus({ preventScroll: true });
  } else {
    const back = opened !== null;
    opened = null;
    $("one").hidden = true; $("one").replaceChildren(); $("overview").hidden = false;
    document.title = `${clean(doc.title)} · llem report`;
    refresh();
    if (back) {
      const from = place.id && document.querySelector(`#table a[href="${CSS.escape(href(place.id))}"], #charts a[href="${CSS.escape(href(place.id))}"]`);
      if (from) { if (from.namespaceURI === SVG) from.setAttribute("tabindex", "0"); from.focus({ preventScroll: true }); }
      scrollTo({ top: place.scroll, behavior: "instant" });
    } else if (hash.length > 1 && $(hash.slice(1))) $(hash.slice(1)).scrollIntoView();
  }
}
function decode(text) { try { return decodeURIComponent(text); } catch { return text; } }

function start() {
  document.body.append(tip);
  const sections = [tradeOff(), effects(), load(), quality(), wallClock()].filter(Boolean);
  $("charts").append(...sections);
  if ($("table")) { $("table").replaceChildren(...table().filter(Boolean)); $("table").classList.add("live"); }
  bars();
  if ($("statement").textContent.trim()) $("method").append(copier(() => [...doc.method, doc.cite].filter(Boolean).join("\n"))); else $("method").hidden = true;
  const toc = [...document.querySelectorAll("#overview section[id]:not([hidden])")].filter((one) => one.id !== "verdict");
  $("overview").prepend(h("nav", { class: "toc", "aria-label": "Sections" }, toc.map((one) => h("a", { href: "#" + one.id }, one.querySelector("h2").textContent))));
  const dark = () => (document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const theme = h("button", { type: "button", onclick: () => { document.documentElement.dataset.theme = dark() ? "light" : "dark"; name(); } });
  const name = () => { theme.textContent = dark() ? "Light" : "Dark"; theme.setAttribute("aria-label", dark() ? "Light colours" : "Dark colours"); };
  name();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);
  $("tools").append(theme);
  together(sections.filter((one) => one.start).map((one) => one.start));
  let opened4print = []; // on paper nothing can be unfolded
  addEventListener("beforeprint", () => { opened4print = [...document.querySelectorAll("#one details:not([open], .alt, .long)")]; for (const one of opened4print) one.open = true; });
  addEventListener("afterprint", () => { for (const one of opened4print) one.open = false; });
  addEventListener("hashchange", route);
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.defaultPrevented) return;
    if (!tip.hidden) hideTip();
    else if (opened !== null && !/^(INPUT|SELECT)$/.test(document.activeElement.tagName)) location.hash = "#experiments";
  });
  document.addEventListener("scroll", () => { // a point that has the focus keeps its tip: it scrolled into view for it
    if (tip.owner && tip.owner === document.activeElement && !tip.hidden) placeTip(); else hideTip();
  }, { passive: true });
  if (location.hash.startsWith("#x/") && document.readyState === "loading") addEventListener("DOMContentLoaded", route); else if (location.hash.length > 1) route();
  document.documentElement.dataset.ready = Math.round(performance.now()); // milliseconds since the page was asked for
}
start();
})();
