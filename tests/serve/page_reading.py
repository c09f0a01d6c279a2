"""What a page is like to those who read it: scripts that run in the browser."""

CONTRASTS = r"""() => {
  const parse = (text) => (text.match(/[\d.]+/g) ?? []).map(Number);
  const over = (top, below) => {
    const share = top[3] ?? 1;
    return top.slice(0, 3).map((c, i) => c * share + below[i] * (1 - share));
  };
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = (colour) => {
    const [r, g, b] = colour.map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => parse(getComputedStyle(element).backgroundColor);
  const behind = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) layers.push(ground(e));
    return layers.reverse().reduce((below, layer) => over(layer, below), ground(document.body));
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !element.checkVisibility()) continue;
    if (element.closest("option, noscript")) continue;
    const grounds = [behind(element)];
    // A text that lies over a bar has two grounds.
    const bar = element.closest(".class")?.querySelector(".bar");
    if (bar) grounds.push(over(ground(bar), grounds[0]));
    const colour = getComputedStyle(element).color;
    for (const below of grounds) {
      const two = [light(over(parse(colour), below)), light(below)].sort((a, b) => a - b);
      const words = element.textContent.trim().slice(0, 40);
      found.push([(two[1] + 0.05) / (two[0] + 0.05), words, colour, below.join()]);
    }
  }
  return found;
}"""
"""The contrast of each visible text with what is behind it, as WCAG 2.2 defines it."""

UNNAMED = """() => {
  const parts = "button, input, select, textarea, a, canvas[role], [role=group]";
  const named = (e) => e.labels?.length || e.getAttribute("aria-label") || e.textContent.trim();
  const all = [...document.querySelectorAll(parts)];
  return all.filter((e) => e.checkVisibility() && !named(e)).map((e) => e.outerHTML);
}"""
"""What can be used and has no name to be called by."""
