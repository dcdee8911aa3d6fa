"use strict";
const { tables, charts } = JSON.parse(document.getElementById("data").textContent);
const data = Object.fromEntries(Object.entries(tables).map(([name, { columns, rows }]) =>
  [name, rows.map((row) => Object.fromEntries(row.map((value, index) => [columns[index], value])))]));
const $ = (selector) => document.querySelector(selector);
const arms = Object.fromEntries(data.arms.map((arm, order) => [arm.name, { ...arm, order }]));
const places = Object.fromEntries(data.places.map((place) => [place.id, place]));
const SIGNS = { reproduced: "✓", "not reproduced": "✗", partly: "~", depends: "~", "not judged": "–" };
const TABLES = {
  differences: { title: "Differences from the VAE", rows: () => of(data.differences, true) },
  arms: { title: "Arms: mean over seeds", rows: () => of(data.means, true) },
  runs: { title: "Every run", rows: () => runRows() },
  claims: { title: "Claims", rows: () => claims() },
  publications: { title: "Publications", rows: () => publicationRows() },
};
const DEFAULTS = { metric: "reconstruction", dataset: "", network: "", study: "", arms: data.arms.map((arm) => arm.name).join(),
  unit: "own", table: "differences", sort: "", picture: "reconstructions" };
let state;

// --- The state is the fragment of the address -------------------------------------------------------------------
function readState() {
  state = { ...DEFAULTS, ...Object.fromEntries(new URLSearchParams(location.hash.slice(1))) };
  if (!data.metrics.some((metric) => metric.name === state.metric)) state.metric = data.metrics[0].name;
  for (const select of document.querySelectorAll("select")) {
    select.value = state[select.name];
    if (select.selectedIndex < 0) { select.selectedIndex = 0; state[select.name] = select.value; }
  }
  for (const box of document.querySelectorAll("#arms input")) box.checked = state.arms.split(",").includes(box.value);
}
function change(changes) {
  const wanted = { ...state, ...changes };
  const said = Object.entries(wanted).filter(([key, value]) => key in DEFAULTS && value !== DEFAULTS[key]);
  history.replaceState(null, "", `#${new URLSearchParams(said)}`);
  readState();
  render();
}

// --- What the filters leave -------------------------------------------------------------------------------------
const chosen = () => data.places.filter((place) => ["dataset", "network", "study"].every((key) => !state[key] || place[key] === state[key]));
const metric = () => data.metrics.find((found) => found.name === state.metric);
function of(rows, byMetric) {
  const ids = new Set(chosen().map((place) => place.id)), names = new Set(state.arms.split(","));
  return rows.filter((row) => ids.has(row.place) && names.has(row.arm) && (!byMetric || row.metric === state.metric));
}
function claims() {
  const ids = new Set(chosen().map((place) => place.id)), names = new Set(state.arms.split(","));
  return data.claims.filter((row) => ids.has(row.place) && names.has(row.arms.split(" ")[0]));
}
const runRows = () => of(data.runs).map(({ place, arm, seed, status, parameters, [state.metric]: value }) =>
  ({ place, arm, seed, status, parameters, [state.metric]: value }));
function publicationRows() {
  const names = new Set(chosen().map((place) => place.study)), all = !state.dataset && !state.network && !state.study;
  return data.publications.filter((row) => all || names.has(row.study) || row.study === state.study);
}

// --- Words ------------------------------------------------------------------------------------------------------
const text = (value, digits = 4) => value === null || value === undefined ? "" : typeof value === "number"
  ? (Number.isInteger(value) ? value.toLocaleString("en") : String(Number(value.toPrecision(digits)))) : String(value);
const interval = (low, high) => low === null ? "" : ` [${text(low)}, ${text(high)}]`;
function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}
function empty(message) {
  return element("p", { className: "empty" }, `${message} `,
    element("button", { type: "button", className: "reset" }, "Reset the filters"));
}

// --- Charts -----------------------------------------------------------------------------------------------------
function differenceRows() {
  const { factor } = metric(), inMargins = state.unit === "margins";
  return of(data.differences, true).filter((row) => !inMargins || row.margin).map((row) => {
    const scale = inMargins ? 1 / row.margin : factor, arm = arms[row.arm], place = places[row.place];
    const by = (value) => value === null ? null : value * scale;
    const [value, low, high, margin] = [row.difference, row.low, row.high, row.margin].map(by);
    const n = row.n === row.n_vae ? row.n : `${row.n} and ${row.n_vae}`;
    const label = `${place.title}, ${arm.label}: ${state.metric} ${text(value)}${interval(low, high)} from the VAE` +
      `${margin === null ? "" : `, margin ${text(margin)}`}, n = ${n}`;
    return { place: row.place, panel: place.title, arm: row.arm, name: arm.label, order: arm.order, value, low, high,
      band_low: margin === null ? null : -margin, band_high: margin, label };
  });
}
function qualityRows() {
  const { factor } = metric(), by = (value) => value === null ? null : value * factor;
  const common = (row) => ({ place: row.place, panel: places[row.place].title, arm: row.arm, aside: arms[row.arm].aside / 2, parameters: row.parameters });
  const mean = of(data.means, true).map((row) => ({ ...common(row), kind: "mean", value: by(row.mean), low: by(row.low), high: by(row.high),
    label: `${places[row.place].title}, ${arms[row.arm].label}: ${state.metric} ${text(by(row.mean))}${interval(by(row.low), by(row.high))}, ` +
      `${text(row.parameters)} parameters, n = ${row.n}` }));
  const seeds = of(data.runs).filter((row) => row[state.metric] !== null).map((row) => ({ ...common(row), kind: "seed", value: by(row[state.metric]),
    label: `${arms[row.arm].label}, seed ${row.seed}: ${text(by(row[state.metric]))}` }));
  return [...mean, ...seeds];
}
function powerRows() {
  return of(data.power, true).map((row) => ({ place: row.place, panel: places[row.place].title, arm: row.arm, seeds: row.seeds, value: row.effect / row.margin,
    label: `${places[row.place].title}, ${arms[row.arm].label}: ${row.seeds} seeds show a match within ${text(row.effect)}, ` +
      `${text(row.effect / row.margin, 3)} of the margin` }));
}
function look() {
  const style = getComputedStyle(document.documentElement), colour = (name) => style.getPropertyValue(name).trim();
  const [ink, soft, line] = ["--ink", "--soft", "--line"].map(colour);
  return { background: null, font: "system-ui, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif", view: { stroke: null },
    axis: { labelColor: ink, titleColor: ink, gridColor: line, domainColor: soft, tickColor: soft, labelFontSize: 12, labelLimit: 110, gridOpacity: 0.6 },
    header: { labelColor: ink } };
}
function scaleDifferences(spec) {
  if (state.unit !== "margins") { spec.resolve.scale.x = "independent"; return; }
  for (const { encoding } of spec.spec.layer) if (encoding.x.field) { // linear near the margin, logarithmic far from it
    encoding.x.scale = { type: "symlog", constant: 1 };
    if (encoding.x.axis) encoding.x.axis.values = [-1000, -100, -10, -3, -1, 0, 1, 3, 10, 100, 1000];
  }
}
async function draw(name, rows, message) {
  const box = $(`#${name}`);
  if (!rows.length) { box.replaceChildren(empty(message)); return; }
  const spec = structuredClone(charts[name]), left = name === "differences" ? 108 : 62, right = 30;
  const panels = new Set(rows.map((row) => row.panel)).size;
  spec.columns = Math.max(1, Math.min(panels, Math.floor(box.clientWidth / 330)));
  spec.spec.width = Math.min(520, Math.floor((box.clientWidth - right) / spec.columns) - left);
  spec.spacing = { column: left, row: 62 }; // room for the axes and titles, which are not counted
  if (name === "differences") scaleDifferences(spec);
  spec.facet.header.labelLimit = spec.spec.width + 12;
  spec.datasets = { rows };
  const actions = { export: true, source: false, compiled: false, editor: false };
  const size = box.offsetHeight; // the page does not jump while a chart is drawn
  box.style.minHeight = `${size}px`;
  await vegaEmbed(box, spec, { renderer: "svg", actions, config: look(), downloadFileName: `${name}-${state.metric}` });
  box.style.minHeight = "";
}

// --- Tables -----------------------------------------------------------------------------------------------------
function verdictTables() { // one for each protocol, as each has its own claims
  const rows = claims(), judged = new Set(rows.filter((row) => row.n && row.arms.includes(" against ")).map((row) => row.place));
  const columns = chosen().filter((place) => judged.has(place.id));
  if (!columns.length) return [empty(rows.length ? "None of these studies has runs of both arms of a claim." : "These studies make no claims, so they have no verdicts.")];
  const protocols = [...new Set(columns.map((place) => place.protocol))].sort().reverse();
  return protocols.map((protocol) => verdictTable(protocol, columns.filter((place) => place.protocol === protocol), rows));
}
function verdictTable(protocol, columns, rows) {
  const here = new Set(columns.map((place) => place.id)), shown = rows.filter((row) => here.has(row.place));
  const texts = [...new Set(shown.map((row) => row.text))];
  const head = element("tr", {}, element("th", { scope: "col" }, `Claim, protocol ${protocol}`), ...columns.map((place) => element("th", { scope: "col" }, place.title)));
  const body = texts.map((claim) => element("tr", {}, element("th", { scope: "row" }, claim), ...columns.map((place) => {
    const row = shown.find((found) => found.text === claim && found.place === place.id);
    if (!row) return element("td");
    const numbers = row.difference === null ? row.note : `difference ${text(row.difference)}${interval(row.interval_95_low, row.interval_95_high)}, ` +
      `margin ${text(row.margin)}${row.note ? `; ${row.note}` : ""}`;
    if (!row.n) return element("td", { className: "verdict", title: row.note }, "–\u00a0no runs");
    const className = `verdict ${row.verdict.replace(/ /g, "-")}`;
    return element("td", { className, title: `${row.metric}: ${numbers}; n = ${text(row.n)}` }, `${SIGNS[row.verdict] || "?"}\u00a0${row.verdict}`);
  })));
  return element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
}
function tableRows() { // as shown and as saved
  const rows = TABLES[state.table].rows().map(({ place, link, ...row }) => place === undefined ? row
    : { study: places[place].study, dataset: places[place].dataset, recipe: places[place].recipe, latent_dim: places[place].latent_dim, ...row });
  const [column, direction] = state.sort.split(" ");
  if (!rows.length || !(column in rows[0])) return rows;
  const sign = direction === "descending" ? -1 : 1, none = (value) => value === null || value === undefined;
  return rows.sort(({ [column]: a }, { [column]: b }) => none(a) || none(b) ? none(a) - none(b)
    : sign * (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en")));
}
function sortableTable() {
  const rows = tableRows();
  if (!rows.length) return empty("No row of this table matches.");
  const [sorted, direction] = state.sort.split(" "), columns = Object.keys(rows[0]);
  const head = columns.map((column) => {
    const cell = element("th", { scope: "col" }, element("button", { type: "button", onclick: () => {
      change({ sort: `${column} ${column === sorted && direction === "ascending" ? "descending" : "ascending"}` });
      $(`#table th[data-column="${column}"] button`).focus();
    } }, column.replace(/_/g, " ")));
    cell.dataset.column = column;
    cell.setAttribute("aria-sort", column === sorted ? direction : "none");
    return cell;
  });
  const body = rows.map((row) => element("tr", {}, ...columns.map((column) => {
    const value = row[column], number = typeof value === "number";
    const shown = column === "arm" ? arms[value].label : column === "commit" ? text(value).slice(0, 9) : text(value, 5);
    return element("td", number ? { className: "number", title: String(value) } : { className: column === "arm" || column === "study" ? "name" : "" }, shown);
  })));
  return element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body));
}
function asCsv(rows) {
  const quoted = (value) => value === null || value === undefined ? "" : /[",\n]/.test(value) ? `"${String(value).replace(/"/g, '""')}"` : String(value);
  return [Object.keys(rows[0] || {}), ...rows.map(Object.values)].map((line) => `${line.map(quoted).join(",")}\n`).join("");
}
function save(form) {
  const rows = tableRows(), content = form === "csv" ? asCsv(rows) : JSON.stringify(rows, null, 1);
  const href = URL.createObjectURL(new Blob([content], { type: form === "csv" ? "text/csv" : "application/json" }));
  element("a", { href, download: `bvae-${state.table}.${form}` }).click();
  setTimeout(() => URL.revokeObjectURL(href), 10000);
}

// --- Pictures ---------------------------------------------------------------------------------------------------
function pictures() {
  const names = new Set(publicationRows().map((row) => row.study));
  const all = data.pictures.filter((picture) => names.has(picture.study)), wanted = all.filter((picture) => picture.kind === state.picture);
  if (!all.length || (!wanted.length && !state.study)) return [empty("None of these studies has this picture.")];
  const found = wanted.length ? wanted : all, missing = wanted.length ? [] : [element("p", {}, "This study does not have this picture. These are all that it has.")];
  const title = (study) => data.publications.find((row) => row.study === study).title;
  return [...missing, ...found.map((picture) => {
    const alt = `${title(picture.study)}${picture.of && `, ${picture.of}`}`;
    return element("figure", {}, element("a", { href: picture.link }, element("img", { src: picture.link, loading: "lazy", alt: `${alt}: ${picture.caption}` })),
      element("figcaption", {}, element("b", {}, alt), ` ${picture.caption}`));
  })];
}

// --- The page ---------------------------------------------------------------------------------------------------
function render(again = false) {
  const { label, meaning, unit, better, factor } = metric();
  const own = unit || "none", direction = better ? ` ${better[0].toUpperCase()}${better.slice(1)} is better.` : " Neither a lower nor a higher value is better.";
  $("#metric").textContent = `${meaning}. Unit: ${factor === 100 ? "%" : own}.${direction} Name in the files: ${state.metric}.`;
  $("#nothing").hidden = chosen().length > 0 || publicationRows().length > 0;
  $("#unit-differences").textContent = `Across: difference in ${label.replace(/ [↑↓]$/, "")}${state.unit === "margins" ? ", in margins. All panels have the same scale, logarithmic beyond the margin." : `${unit && `, ${unit}`}. Each panel has its own scale.`}`;
  $("#unit-quality").textContent = `Up: ${label}${factor === 100 ? ", %" : unit ? `, ${unit}` : ""}. Across: parameters. Each panel has its own scale.`;
  $("#verdicts").replaceChildren(...verdictTables());
  $("#table").replaceChildren(sortableTable());
  $("#pictures").replaceChildren(...pictures());
  const key = ["metric", "dataset", "network", "study", "arms", "unit"].map((name) => state[name]).join(" ");
  if (key === drawnFor && !again) return;
  drawnFor = key;
  drawn = drawn.then(() => key === drawnFor && drawCharts()); // one after the other, and only the last that is wanted
}
function drawCharts() {
  const { better } = metric();
  return Promise.all([
    draw("differences", differenceRows(), better ? (state.unit === "margins" ? "These studies have no margin for this metric." : "None of these studies compares an arm with the VAE by this metric.")
      : "Neither a lower nor a higher value of this metric is better, so arms are not compared by it."),
    draw("quality", qualityRows(), "None of these studies has this metric."),
    draw("power", powerRows(), "These studies have no margin for this metric, so there is nothing to decide."),
  ]);
}
let drawn = Promise.resolve(), drawnFor;
function fill(name, options) {
  for (const select of document.querySelectorAll(`select[name=${name}]`)) for (const [value, label, group] of options) {
    const last = select.lastElementChild;
    const parent = !group ? select : last && last.label === group ? last : select.appendChild(element("optgroup", { label: group }));
    parent.append(element("option", { value }, label));
  }
}
function start() {
  const every = (key) => [...new Set(data.places.map((place) => place[key]))].sort().map((value) => [value, value]);
  fill("metric", data.metrics.map((found) => [found.name, found.label, found.task]));
  fill("dataset", [["", "all"], ...every("dataset")]);
  fill("network", [["", "all"], ...every("network")]);
  fill("study", [["", "all"], ...data.publications.map((row) => [row.study, row.title])]);
  fill("table", Object.entries(TABLES).map(([name, table]) => [name, table.title]));
  fill("picture", [...new Set(data.pictures.map((picture) => picture.kind))].sort().map((kind) => [kind, kind.replace(/_/g, " ")]));
  $("#arms").append(...data.arms.map((arm) => element("label", {}, element("input", { type: "checkbox", value: arm.name }),
    " ", element("span", { style: `color: ${arm.colour}`, ariaHidden: "true" }, arm.sign), ` ${arm.label}`)));
  document.addEventListener("change", ({ target }) => {
    if (target.name in DEFAULTS) change({ [target.name]: target.value, ...(target.name === "table" ? { sort: "" } : {}) });
    else if (target.closest("#arms")) change({ arms: [...document.querySelectorAll("#arms :checked")].map((box) => box.value).join() });
  });
  document.addEventListener("click", ({ target }) => {
    if (target.matches(".reset")) change({ ...DEFAULTS, table: state.table, picture: state.picture });
    else if (target.dataset.save) save(target.dataset.save);
  });
  $("#filters").addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("hashchange", () => { if (!document.getElementById(location.hash.slice(1))) { readState(); render(); } });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => render(true));
  let width = innerWidth, later;
  addEventListener("resize", () => { // a phone's bars change the height only
    if (innerWidth === width) return;
    width = innerWidth;
    clearTimeout(later);
    later = setTimeout(() => render(true), 150);
  });
  readState();
  render();
}
start();
