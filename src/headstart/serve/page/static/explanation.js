// Why: a heat map over the picture, or words in two colours and with signs.

import { make, number } from "./dom.js";

// From nothing to much, each step lighter: dark blue, purple, orange, yellow.
const RAMP = [[20, 11, 60], [112, 28, 110], [190, 55, 82], [243, 120, 25], [252, 225, 120]];
const NOTED = 0.15; // weights below this get no sign: they are close to nothing

const METHODS = {
  "grad-cam": "Grad-CAM: where the network's last map speaks for it",
  occlusion: "Occlusion: what is lost when a part is covered or left out",
  "integrated-gradients": "Integrated gradients: what each word adds",
};

function colour(value) {
  const place = value * (RAMP.length - 1);
  const low = Math.min(Math.floor(place), RAMP.length - 2);
  return RAMP[low].map((c, i) => Math.round(c + (place - low) * (RAMP[low + 1][i] - c)));
}

// Bilinear between the middles of the cells, so that no corner of a cell is seen.
function heatMap(grid) {
  const size = 96;
  const image = new ImageData(size, size);
  const at = (place, count) => {
    const where = Math.min(Math.max(((place + 0.5) / size) * count - 0.5, 0), count - 1);
    const low = Math.min(Math.floor(where), Math.max(count - 2, 0));
    return [low, Math.min(low + 1, count - 1), where - low];
  };
  for (let y = 0; y < size; y++) {
    const [top, bottom, down] = at(y, grid.length);
    for (let x = 0; x < size; x++) {
      const [left, right, across] = at(x, grid[0].length);
      const upper = grid[top][left] * (1 - across) + grid[top][right] * across;
      const lower = grid[bottom][left] * (1 - across) + grid[bottom][right] * across;
      const value = upper * (1 - down) + lower * down;
      image.data.set([...colour(value), 60 + 195 * value], 4 * (y * size + x));
    }
  }
  const canvas = new OffscreenCanvas(size, size);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

function place(grid) {
  let best = -1;
  let row = 0;
  let column = 0;
  grid.forEach((cells, y) => cells.forEach((value, x) => {
    if (value > best) [best, row, column] = [value, y, x];
  }));
  if (best <= 0) return "nowhere";
  const third = (i, n, names) => names[Math.min(2, Math.floor((3 * (i + 0.5)) / n))];
  const where = [third(row, grid.length, ["top", "", "bottom"]), third(column, grid[0].length, ["left", "", "right"])];
  return where.filter(Boolean).join(" ") || "middle";
}

export function pictureExplanation(explained, picture) {
  const width = picture ? picture.width : 480;
  const height = picture ? picture.height : 480;
  const scale = 720 / Math.max(width, height);
  const size = { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) };
  const below = make("canvas", size);
  const where = place(explained.grid);
  const said = `Heat map of what speaks for ${explained.label ?? "the value"}: strongest at the ${where}`;
  const above = make("canvas", { ...size, role: "img", "aria-label": said.replace("at the nowhere", "nowhere") });
  if (picture) below.getContext("2d").drawImage(picture, 0, 0, size.width, size.height);
  const [left, top, right, bottom] = explained.box;
  const context = above.getContext("2d");
  const box = [left * size.width, top * size.height, (right - left) * size.width, (bottom - top) * size.height];
  context.drawImage(heatMap(explained.grid), ...box);
  // What lies outside the box was cut off before the network saw it.
  context.setLineDash([8, 6]);
  context.lineWidth = 2;
  context.strokeStyle = "#fff";
  context.strokeRect(...box);
  const slider = make("input", { type: "range", min: 0, max: 100, value: 75 });
  const shown = make("input", { type: "checkbox", class: "heat", checked: true });
  const update = () => { above.style.opacity = shown.checked ? slider.value / 100 : 0; };
  slider.addEventListener("input", () => { shown.checked = true; update(); });
  shown.addEventListener("change", update);
  update();
  const stack = make("div", { class: "stack" }, below, above);
  stack.style.width = `min(100%, 28rem, ${(24 * width) / height}rem)`;
  return make("figure", {},
    stack,
    make("figcaption", {},
      make("div", { class: "controls" },
        make("label", { class: "check" }, shown, "Heat map"),
        make("label", { class: "slider" }, "Strength", slider)),
      make("p", { class: "faint" }, legend()),
      make("p", { class: "faint" }, `${METHODS[explained.method]}. ${outside(explained.box)}`)));
}

function outside([left, top, right, bottom]) {
  if (left > 0.001 || top > 0.001 || right < 0.999 || bottom < 0.999) return "Outside the dashed line the network saw nothing.";
  return "";
}

function legend() {
  const canvas = make("canvas", { width: 96, height: 8, "aria-hidden": "true" });
  const context = canvas.getContext("2d");
  for (let x = 0; x < 96; x++) {
    context.fillStyle = `rgb(${colour(x / 95)})`;
    context.fillRect(x, 0, 1, 8);
  }
  return make("span", { class: "scale" }, "no part", canvas, "strongest part");
}

export function wordsExplanation(explained) {
  const texts = explained.texts ?? [explained.text];
  const parts = texts.map((text, side) => coloured(text, explained.words.filter((word) => (word.side ?? 1) === side + 1)));
  const unseen = explained.words.filter((word) => word.seen === false).length;
  const target = explained.label ?? "a larger value";
  const notes = [`${METHODS[explained.method]}.`];
  if (explained.window > 1) notes.push(`Left out ${explained.window} words at a time.`);
  if (unseen) notes.push(`The last ${unseen} words, in italics, are beyond what the network reads.`);
  return make("div", {},
    make("p", {},
      make("span", { class: "words-key" }, "Words marked ", make("b", {}, "+"), ` and underlined speak for ${target}, words marked `,
        make("b", {}, "−"), " and dashed against it.")),
    ...parts,
    make("p", { class: "faint" }, notes.join(" ")),
    ranked(explained.words));
}

function coloured(text, words) {
  const signs = Array.from(text); // places are counted in code points, not in JavaScript's units
  const paragraph = make("p", { class: "words", tabindex: 0, role: "group", "aria-label": "Words with their weights" });
  let at = 0;
  for (const word of words) {
    paragraph.append(signs.slice(at, word.start).join(""));
    at = word.end;
    const said = signs.slice(word.start, word.end).join("");
    const strong = Math.abs(word.weight) >= NOTED;
    const kind = word.seen === false ? "unseen" : strong ? (word.weight > 0 ? "for" : "against") : null;
    const span = make("span", { class: kind, title: number(word.weight) }, said);
    if (strong && word.seen !== false) {
      span.style.setProperty("--weight", 0.08 + 0.42 * Math.abs(word.weight));
      span.append(make("sup", {}, word.weight > 0 ? "+" : "−"));
    }
    paragraph.append(span);
  }
  paragraph.append(signs.slice(at).join(""));
  return paragraph;
}

function ranked(words) {
  const order = words.filter((word) => word.seen !== false).sort((a, b) => Math.abs(b.weight) - Math.abs(a.weight));
  const rows = order.slice(0, 10).map((word) => make("tr", {},
    make("th", { scope: "row" }, word.text),
    make("td", { class: "number" }, (word.weight > 0 ? "+" : "") + number(word.weight))));
  return make("details", {},
    make("summary", {}, "The strongest words in numbers"),
    make("div", { class: "table" }, make("table", {},
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Word"), make("th", { scope: "col" }, "Weight"))),
      make("tbody", {}, ...rows))));
}
