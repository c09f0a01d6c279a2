// The page: what is asked, of which models, and what they answer.

import { explain, keepKey, models, predict, sentence } from "./api.js";
import { $, make, number, percent } from "./dom.js";
import { pictureExplanation, wordsExplanation } from "./explanation.js";

const SHOWN = 5;
const state = { models: [], body: null, picture: null, asked: null, named: "" };

start();

async function start() {
  listen();
  await open();
}

async function open() {
  try {
    state.models = await models();
  } catch (error) {
    $("key-form").hidden = error.status !== 401;
    if (error.status === 401 && !$("key").value) return $("key").focus();
    return complain(error);
  }
  complain(null);
  $("key-form").hidden = true;
  $("work").hidden = false;
  $("model").replaceChildren(...state.models.map((m) => make("option", { value: m.name }, optionName(m))));
  $("model-choice").hidden = state.models.length === 1;
  chosen();
}

// The short name first: titles of one study begin alike, and only their beginning is seen.
const optionName = (model) => (model.title ? `${model.name} · ${model.title}` : model.name);

const current = () => state.models.find((m) => m.name === $("model").value);
const other = () => state.models.find((m) => m.name === $("compare").value);
const asked = () => [current(), other()].filter(Boolean);

// Another model: another form where it takes something else; the same input is asked again where not.
function chosen() {
  const model = current();
  const before = $("work").dataset.task;
  const fitting = state.models.filter((m) => m !== model && m.task === model.task);
  const kept = $("compare").value;
  $("compare").replaceChildren(make("option", { value: "" }, "none"), ...fitting.map((m) => make("option", { value: m.name }, optionName(m))));
  if (fitting.some((m) => m.name === kept)) $("compare").value = kept;
  $("compare-choice").hidden = !fitting.length;
  $("work").dataset.task = model.task;
  $("work").classList.toggle("wide-input", model.task !== "image");
  for (const part of document.querySelectorAll("[data-task]")) if (part !== $("work")) part.hidden = part.dataset.task !== model.task;
  $("predict").hidden = model.task === "image";
  $("title").textContent = model.title || model.name;
  document.title = `${model.title || model.name} · Headstart`;
  $("about").textContent = about(model);
  if (model.task === "sequence") $("numbers-hint").textContent = numbersHint(model);
  if (before !== model.task) clear();
  else ask();
}

function about(model) {
  const count = model.classes?.length ?? 0;
  const what = model.goal === "regression" ? "tells one number" : `tells ${count} classes apart`;
  const names = model.goal !== "regression" && count <= 6 ? `: ${model.classes.join(", ")}` : "";
  const accuracy = model.metrics?.test?.accuracy;
  const value = typeof accuracy === "number" ? accuracy : accuracy?.value;
  const tested = typeof value === "number" ? ` Accuracy on its test samples: ${percent(value)}` + (accuracy.low !== undefined ? ` (95% interval ${percent(accuracy.low)} to ${percent(accuracy.high)}).` : ".") : "";
  return sentence(what + names) + tested;
}

function numbersHint(model) {
  const { channels = 1, max_length: most } = model.input ?? {};
  const rows = channels > 1 ? `One step a line, ${channels} numbers each` : "Numbers, separated by spaces, commas or lines";
  return `${rows}${most ? `; at most ${most} steps` : ""}.`;
}

function clear() {
  state.body = null;
  $("cards").replaceChildren();
  $("status").textContent = "Nothing yet.";
  complain(null);
}

// What was typed, as the server takes it; a picture stands in state.body since it was chosen.
function typed() {
  const model = current();
  if (model.task === "image") return state.body;
  if (model.task === "text") return $("text").value.trim() ? { text: $("text").value } : null;
  if (model.task === "pair") return $("first").value.trim() && $("second").value.trim() ? { pairs: [[$("first").value, $("second").value]] } : null;
  return sequence(model);
}

function sequence(model) {
  const channels = model.input?.channels ?? 1;
  const rows = $("numbers").value.split("\n").map((line) => line.split(/[\s,;]+/).filter(Boolean).map(Number)).filter((row) => row.length);
  if (!rows.length) return null;
  if (rows.flat().some((value) => !Number.isFinite(value))) throw new Error("Expected numbers only, such as 0.5 or -2e3, with a point and not a comma in them.");
  if (channels === 1) return { values: rows.flat() };
  if (rows.some((row) => row.length !== channels)) throw new Error(`Expected ${channels} numbers on each line.`);
  return { values: rows };
}

async function ask(loudly = false) {
  let body;
  try {
    body = typed();
  } catch (error) {
    return complain(error);
  }
  if (body === null) return loudly ? complain(new Error(missing())) : undefined;
  state.asked?.abort();
  const going = (state.asked = new AbortController());
  state.body = body;
  const several = asked();
  $("status").textContent = "Predicting …";
  $("cards").setAttribute("aria-busy", "true");
  try {
    const most = Math.min(1000, Math.max(1, ...several.map((m) => m.classes?.length ?? 1)));
    const answer = await predict(several.map((m) => m.name), body, most, going.signal);
    complain(null);
    const cards = several.map((model) => card(model, answer.results.find((r) => r.model === model.name), body, several.length > 1));
    $("cards").replaceChildren(...cards);
    $("status").textContent = several.map((model, i) => told(model, answer.results[i], several.length > 1)).join(" ");
  } catch (error) {
    if (error.name === "AbortError") return;
    $("cards").replaceChildren();
    $("status").textContent = "No result.";
    complain(error);
  } finally {
    if (state.asked === going) $("cards").removeAttribute("aria-busy");
  }
}

function missing() {
  return { image: "Choose a picture first.", text: "Write a text first.", pair: "Write both texts first.", sequence: "Write some numbers first." }[current().task];
}

function told(model, result, several) {
  const answer = result.predictions[0];
  const who = several ? `${model.title || model.name}: ` : "";
  const of = state.named ? ` for ${state.named}` : "";
  if (answer.error) return `${who}${answer.error}.`;
  return answer.label === undefined ? `${who}${number(answer.value)}${of}.` : `${who}${answer.label}, ${percent(answer.probability)}${of}.`;
}

function card(model, result, body, several) {
  const answer = result.predictions[0];
  const name = model.title || model.name;
  const inside = make("div");
  // One model's name stands above the page already.
  const article = make("article", { class: "card", "aria-label": name }, make("h3", { hidden: !several }, name), inside);
  if (answer.error) {
    inside.append(make("p", { class: "error" }, sentence(answer.error)));
    return article;
  }
  const why = make("div", { class: "why" });
  const can = (model.explanations ?? []).length > 0;
  const label = answer.label ?? null;
  if (label === null) {
    inside.append(make("p", { class: "verdict" }, number(answer.value)));
  } else {
    inside.append(make("p", { class: "verdict" }, label, " ", make("small", {}, percent(answer.probability))));
    inside.append(...classes(answer.top, can ? (chosen, button) => show(model, body, chosen, why, button) : null));
  }
  if (can) {
    const explainIt = () => show(model, body, label, why, inside.querySelector("button.class"));
    inside.append(make("div", { class: "row" },
      make("button", { type: "button", class: "second ask-why", onclick: explainIt }, label === null ? "Why?" : `Why ${label}?`),
      label === null ? null : make("p", { class: "faint" }, "Or choose a class above.")));
  }
  inside.append(why);
  return article;
}

function classes(top, choose) {
  const list = make("ol", { class: "classes", "aria-label": "Classes, the most probable first" });
  const rows = top.map(({ label, probability }) => {
    const bar = make("span", { class: "bar", "aria-hidden": "true" });
    bar.style.width = `${100 * probability}%`;
    const inside = [bar, make("span", {}, label), make("span", { class: "value" }, percent(probability))];
    if (choose === null) return make("li", {}, make("div", { class: "class" }, ...inside));
    const button = make("button", { type: "button", class: "class", "aria-pressed": "false", title: `Why ${label}?` }, ...inside);
    button.addEventListener("click", () => choose(label, button));
    return make("li", {}, button);
  });
  list.append(...rows.slice(0, SHOWN));
  if (rows.length <= SHOWN) return [list];
  const more = make("button", { type: "button", class: "plain" }, `Show all ${rows.length} classes`);
  more.addEventListener("click", () => {
    list.append(...rows.slice(SHOWN));
    more.remove();
    rows[SHOWN].querySelector("button")?.focus();
  });
  return [list, more];
}

async function show(model, body, label, why, button) {
  for (const one of why.parentElement.querySelectorAll("button.class")) one.setAttribute("aria-pressed", String(one === button));
  const turn = (why.turn = (why.turn ?? 0) + 1);
  why.replaceChildren(make("p", { class: "faint" }, "Looking for the reason …"));
  $("status").textContent = "Looking for the reason …";
  try {
    const found = await explain(model.name, body, label);
    if (why.turn !== turn) return; // another class was chosen meanwhile
    why.replaceChildren(make("h3", {}, label === null ? "Why this value" : `Why ${label}`), found.grid ? pictureExplanation(found, state.picture) : wordsExplanation(found));
    $("status").textContent = label === null ? "Explained." : `Explained: ${label}.`;
  } catch (error) {
    if (why.turn !== turn) return;
    why.replaceChildren();
    $("status").textContent = "No explanation.";
    complain(error);
  }
}

async function take(file) {
  if (!file || !current()) return;
  if (current().task !== "image") return complain(new Error("This model does not take pictures: choose another model, or write a text."));
  state.body = file;
  state.named = file.name || "the pasted picture";
  state.picture?.close();
  state.picture = await createImageBitmap(file).catch(() => null); // not every format can be shown
  const canvas = $("preview");
  canvas.hidden = state.picture === null;
  if (state.picture) {
    const scale = Math.min(1, 640 / Math.max(state.picture.width, state.picture.height));
    canvas.width = Math.max(1, Math.round(state.picture.width * scale));
    canvas.height = Math.max(1, Math.round(state.picture.height * scale));
    canvas.getContext("2d").drawImage(state.picture, 0, 0, canvas.width, canvas.height);
  }
  $("drop-words").replaceChildren(make("strong", {}, "Choose another picture"), make("br"), state.named, state.picture ? "" : " (your browser cannot show it)");
  await ask();
}

function complain(error) {
  $("alert").replaceChildren(...(error ? [make("p", { class: "error" }, make("strong", {}, "Error: "), error.message)] : []));
  if (error?.status === 401) {
    $("key-form").hidden = false;
    $("key").focus();
  }
}

function listen() {
  $("model").addEventListener("change", chosen);
  $("compare").addEventListener("change", () => ask());
  $("file").addEventListener("change", (event) => take(event.target.files[0]));
  $("form").addEventListener("submit", (event) => { event.preventDefault(); state.named = ""; ask(true); });
  $("key-form").addEventListener("submit", (event) => { event.preventDefault(); keepKey($("key").value.trim()); open(); });
  $("help-open").addEventListener("click", () => $("help").showModal());
  document.addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dropping"); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("dropping"); });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    take(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
    if (!file) return;
    event.preventDefault();
    take(file);
  });
  document.addEventListener("keydown", shortcut);
}

function shortcut(event) {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !$("work").hidden) return ask(true);
  const writing = event.target.matches("textarea, select, input:not([type=checkbox]):not([type=range]):not([type=file])");
  if (writing || event.ctrlKey || event.metaKey || event.altKey || !$("shortcuts").checked) return;
  const act = {
    o: () => (current()?.task === "image" ? $("file").click() : document.querySelector("[data-task]:not([hidden]) textarea")?.focus()),
    w: () => document.querySelector(".ask-why")?.click(),
    h: () => document.querySelectorAll(".heat").forEach((box) => box.click()),
    m: () => { $("model").selectedIndex = ($("model").selectedIndex + 1) % $("model").length; chosen(); },
    "?": () => $("help").showModal(),
  }[event.key];
  if (!act || $("help").open) return;
  event.preventDefault();
  act();
}
