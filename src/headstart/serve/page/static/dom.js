// Elements in one line each. Text is only ever set as text: nothing that was typed becomes markup.

export const $ = (id) => document.getElementById(id);

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

// 0.9996 is not 100%: what is not certain is not shown as if it were.
export function percent(p) {
  const shown = (100 * p).toFixed(1);
  if (shown === "100.0" && p < 1) return "> 99.9%";
  if (shown === "0.0" && p > 0) return "< 0.1%";
  return `${shown}%`;
}

export function number(value) {
  return Number(value.toPrecision(5)).toString().replace("-", "−");
}
