// What the server is asked, and what goes wrong in words that say what to do.

const KEY = "headstart-key";

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function keepKey(key) {
  sessionStorage.setItem(KEY, key);
}

export async function models() {
  const answer = await ask("models");
  return Array.isArray(answer) ? answer : answer.models;
}

// `body` is a File, or a value that is sent as JSON.
export function predict(names, body, top, signal) {
  const query = new URLSearchParams(names.map((name) => ["model", name]));
  query.set("top", top);
  return ask(`predict?${query}`, body, signal);
}

export function explain(name, body, label, signal) {
  const query = new URLSearchParams({ model: name });
  if (label !== null) query.set("label", label);
  return ask(`explain?${query}`, body, signal);
}

async function ask(path, body, signal) {
  const headers = {};
  const key = sessionStorage.getItem(KEY);
  if (key) headers.Authorization = `Bearer ${key}`;
  const options = { headers, signal };
  if (body !== undefined) {
    options.method = "POST";
    const file = body instanceof Blob;
    headers["Content-Type"] = file ? "application/octet-stream" : "application/json";
    options.body = file ? body : JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    // A server that refuses a large body may hang up before all of it was sent.
    throw new Refused(0, "The server did not answer. Is it still running, and is the file not far too large?");
  }
  const answer = await response.json().catch(() => null);
  if (response.ok && answer !== null) return answer;
  throw new Refused(response.status, reason(response, answer));
}

function reason(response, answer) {
  // One sample was sent: that all were bad says less than what was wrong with it.
  const failed = answer?.results?.[0]?.predictions?.[0]?.error;
  const said = (failed ?? answer?.error?.message ?? "").replace(/^no prediction: /, "");
  const wait = response.headers.get("Retry-After");
  switch (response.status) {
    case 401:
      return "The API key is missing or wrong.";
    case 413:
      return sentence(`That is too large for this server. ${sentence(said)}`);
    case 415:
      return sentence(`That kind of input cannot be read here. ${sentence(said)}`);
    case 422:
      return sentence(`The input could not be read: ${said || "it is not what the model takes"}`);
    case 503:
      return wait ? `The server is busy. Try again in ${wait} s.` : "The server is busy or stopping. Try again soon.";
    case 504:
      return "It took too long. Try again, or try something smaller.";
    default:
      return sentence(said || `The server answered ${response.status}`);
  }
}

export function sentence(text) {
  const trimmed = text.trim();
  if (!trimmed) return "";
  return trimmed[0].toUpperCase() + trimmed.slice(1) + (/[.!?]$/.test(trimmed) ? "" : ".");
}
