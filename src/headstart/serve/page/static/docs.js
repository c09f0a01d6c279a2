// The API's description from openapi.json, for people.

import { $, make } from "./dom.js";

const METHODS = ["get", "post", "put", "delete"];

draw().catch((error) => $("operations").replaceChildren(make("p", { class: "error", role: "alert" }, `openapi.json could not be read: ${error.message}`)));

async function draw() {
  const response = await fetch("openapi.json");
  if (!response.ok) throw new Error(`the server answered ${response.status}`);
  const api = await response.json();
  $("title").textContent = `${api.info.title} ${api.info.version}`;
  const operations = Object.entries(api.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => operation(api, path, method, item[method])));
  const about = api.info.description ? [prose(api.info.description)] : [];
  $("operations").replaceChildren(...about, ...operations);
}

function operation(api, path, method, described) {
  const section = make("section", { class: "operation" },
    make("h2", {}, make("span", { class: "method" }, method.toUpperCase()), " ", make("code", {}, path)));
  section.append(prose(described.description ?? described.summary ?? ""));
  const parameters = (described.parameters ?? []).map((one) => resolve(api, one));
  if (parameters.length) {
    section.append(make("h3", {}, "Parameters"), table(["Name", "In", "Type", "Meaning"],
      parameters.map((one) => [one.name, one.in, kind(api, one.schema), one.description ?? ""])));
  }
  const body = resolve(api, described.requestBody ?? {});
  if (body.content) section.append(make("h3", {}, "Body"), ...contents(api, body.content));
  section.append(make("h3", {}, "Answers"), table(["Status", "Meaning"],
    Object.entries(described.responses ?? {}).map(([status, one]) => [status, resolve(api, one).description ?? ""])));
  for (const [status, one] of Object.entries(described.responses ?? {})) {
    const content = resolve(api, one).content;
    if (status === "200" && content) section.append(make("details", {}, make("summary", {}, "What 200 holds"), ...contents(api, content)));
  }
  return section;
}

function contents(api, content) {
  return Object.entries(content).flatMap(([type, { schema }]) => {
    const forms = resolve(api, schema ?? {}).oneOf ?? [schema ?? {}];
    return [make("p", { class: "type" }, make("code", {}, type)), make("pre", {}, forms.map((form) => shape(api, form, "")).join("\nor\n"))];
  });
}

// A schema as what it allows looks like; "?" marks what may be missing.
function shape(api, schema, indent) {
  const found = resolve(api, schema);
  const several = found.anyOf ?? found.oneOf;
  if (indent.length > 12) return "…";
  if (several) return several.map((one) => shape(api, one, indent)).join(" | ");
  if (found.type === "array") {
    const item = shape(api, found.items ?? {}, indent);
    const few = found.minItems === found.maxItems && found.maxItems < 5;
    return `[${few ? Array(found.maxItems).fill(item).join(", ") : `${item}, …`}]`;
  }
  if (!found.properties) return kind(api, found) || "anything";
  const needed = new Set(found.required ?? []);
  const inner = `${indent}  `;
  const lines = Object.entries(found.properties).map(([name, one]) => `"${name}"${needed.has(name) ? "" : "?"}: ${shape(api, one, inner)}`);
  return lines.length === 1 && !lines[0].includes("\n") ? `{${lines[0]}}` : `{\n${inner}${lines.join(`,\n${inner}`)}\n${indent}}`;
}

function resolve(api, value) {
  if (!value.$ref) return value;
  return value.$ref.replace(/^#\//, "").split("/").reduce((at, name) => at[name], api);
}

function kind(api, schema) {
  if (!schema) return "";
  const found = resolve(api, schema);
  if (found.enum) return found.enum.join(" | ");
  const several = found.anyOf ?? found.oneOf;
  if (several) return several.map((one) => kind(api, one)).join(" or ");
  if (found.format === "binary") return "bytes of a file";
  const type = found.type === "array" ? `list of ${kind(api, found.items) || "values"}` : (found.type ?? "");
  return found.default === undefined || found.default === null ? type : `${type} = ${JSON.stringify(found.default)}`;
}

function table(heads, rows) {
  return make("div", { class: "table" }, make("table", {},
    make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((cell) => make("td", {}, String(cell))))))));
}

function prose(text) {
  return make("div", {}, ...text.split(/\n\s*\n/).filter(Boolean).map((part) => make("p", {}, part)));
}
