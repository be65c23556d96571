// What the page knows of its tables, and their strips. This and the two beside it are one function, in order: tables, details, filters.

const data = JSON.parse(document.getElementById("data").textContent);
const DAY = 86400e3;
const MARK = 3; // CSS pixels of one mark of a strip
const CELLS = 800; // at most so many cells of a chunked table's grid
const LISTED = 40; // ranges that a table's details list
const SVG = "http://www.w3.org/2000/svg";
// From the one to worry about least to the worst: the worst wins where several share a mark.
const RANK = Object.keys(data.states);
// Top and bottom of what each state fills, of 20: shapes differ as well as colours.
const SHAPES = {
  T: [[4, 20]], M: [[0, 3], [5, 20]], S: [[4, 12]], L: [[12, 20]], P: [[0, 7], [13, 20]], E: [[17, 20]], O: [[4, 6], [18, 20]],
};
const numbers = new Intl.NumberFormat("en");
const by = (id) => document.getElementById(id);

function make(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// --- what the page knows of a table ---------------------------------------------------------------------------

const rows = [...document.querySelectorAll(".all tr[id]")].map((element, number) => {
  const [kind, step, first, stop, text, width = 1] = data.rows[number];
  const network = element.cells[0].textContent;
  const strip = element.querySelector(".s");
  let runs;
  return {
    element, strip, kind, step, first, stop, width, network,
    name: element.id.slice(network.length + 1),
    known: text !== "",
    has: (letter) => text.includes(letter),
    /** [letter, first, stop] of each run; read when it is first needed, since most tables are never looked at. */
    get runs() {
      return (runs ??= decode(text, first));
    },
  };
});

function decode(text, first) {
  let index = first;
  return [...text.matchAll(/([A-Z])([0-9a-z]*)/g)].map(([, letter, count]) => {
    const from = index;
    index += count ? parseInt(count, 36) : 1;
    return [letter, from, index];
  });
}

/** The worst letter of each of `count` equal parts of first..stop; nothing where no partition is. */
function worst(runs, first, stop, count) {
  const ranks = new Int8Array(count).fill(-1);
  const scale = count / (stop - first);
  for (const [letter, from, to] of runs) {
    const rank = RANK.indexOf(letter);
    const last = Math.min(count, Math.ceil((to - first) * scale - 1e-9));
    for (let part = Math.max(0, Math.floor((from - first) * scale + 1e-9)); part < last; part++) {
      if (ranks[part] < rank) ranks[part] = rank;
    }
  }
  return ranks;
}

const label = (row, index) => {
  if (row.kind === 2) return String(index * row.step);
  const text = new Date(index * row.step * 1000).toISOString();
  return row.kind === 0 ? text.slice(0, 10) : text.slice(0, 13);
};
const said = (row, index) => (row.kind === 2 ? numbers.format(index * row.step) : label(row, index));
const span = (row, from, to) => {
  if (row.kind === 2) return `${said(row, from)} … ${numbers.format(to * row.step - 1)}`;
  return to - from === 1 ? said(row, from) : `${said(row, from)} … ${said(row, to - 1)}`;
};

/** The command that mends first..stop, or nothing when there is nothing to do. */
function command(row, letter, from, to) {
  const { does } = data.states[letter];
  // Where only the worst of several is known, nothing is forced.
  if (!does || (row.width > 1 && does.includes("--force"))) return "";
  const last = row.kind === 2 ? String(to * row.step - 1) : label(row, to - 1);
  const range = row.kind !== 2 && to - from === 1 ? `--date ${label(row, from)}` : `--from ${label(row, from)} --to ${last}`;
  return `icefleet export ${row.name} -n ${row.network} -e ${data.environment} ${range} ${does}`;
}

// --- strips ---------------------------------------------------------------------------------------------------

const inTime = rows.filter((row) => row.kind !== 2 && row.known);
const days = (row, index) => (index * row.step) / 86400;
const start = Math.min(...inTime.map((row) => days(row, row.first)));
const end = Math.max(...inTime.map((row) => days(row, row.stop)));
const years = [];
for (let year = new Date(start * DAY).getUTCFullYear(); inTime.length; year++) {
  const at = (Date.UTC(year, 0, 1) / DAY - start) / (end - start);
  if (at >= 1) break;
  years.push([year, Math.max(0, at), at >= 0]);
}
by("axis").append(...years.filter(([, at], k) => (k + 1 < years.length ? years[k + 1][1] - at > 0.07 : at < 0.94)).map(([year, at]) => {
  const tick = make("span", {}, String(year));
  tick.style.left = `${at * 100}%`;
  return tick;
}));

function drawing(width, height) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("width", width);
  svg.setAttribute("height", height);
  svg.setAttribute("shape-rendering", "crispEdges");
  return svg;
}
function path(svg, name, d) {
  const made = document.createElementNS(SVG, "path");
  made.setAttribute("class", name);
  made.setAttribute("d", d);
  svg.append(made);
}

function draw(row) {
  const width = row.strip.clientWidth;
  if (!row.known || !width || row.drawn === width) return;
  row.drawn = width;
  const marks = Math.max(1, Math.floor(width / MARK));
  const timed = row.kind !== 2;
  const scale = timed ? 86400 / row.step : 1;
  const ranks = timed ? worst(row.runs, start * scale, end * scale, marks) : worst(row.runs, row.first, row.stop, marks);
  const paths = {};
  for (let from = 0; from < marks; ) {
    let to = from + 1;
    while (to < marks && ranks[to] === ranks[from]) to++;
    if (ranks[from] >= 0) {
      const letter = RANK[ranks[from]];
      const left = Math.round((from * width) / marks);
      const wide = Math.round((to * width) / marks) - left;
      for (const [top, bottom] of SHAPES[letter]) {
        paths[letter] = (paths[letter] || "") + `M${left} ${top}h${wide}v${bottom - top}h${-wide}z`;
      }
    }
    from = to;
  }
  const svg = drawing(width, 20);
  if (timed) path(svg, "Y", years.filter((year) => year[2]).map((year) => `M${Math.round(year[1] * width) + 0.5} 0v20`).join(""));
  for (const letter of RANK) if (paths[letter]) path(svg, letter, paths[letter]);
  row.strip.replaceChildren(svg);
}

const ofStrip = new Map(rows.map((row) => [row.strip, row]));
const seen = new Set();
const watching = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const row = ofStrip.get(entry.target);
    if (entry.isIntersecting) {
      seen.add(row);
      draw(row);
    } else seen.delete(row);
  }
}, { rootMargin: "600px 0px" });
for (const row of rows) {
  row.strip.setAttribute("aria-hidden", "true");
  watching.observe(row.strip);
}
new ResizeObserver(() => seen.forEach(draw)).observe(document.querySelector(".all"));
addEventListener("beforeprint", () => rows.forEach(draw));
