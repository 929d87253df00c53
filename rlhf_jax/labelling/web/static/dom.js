// Elements from plain values. Text becomes text nodes; nothing here takes markup.

export function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "class") node.className = value;
    else node.setAttribute(key, value === true ? "" : value);
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined) node.append(child);
  }
  return node;
}

export function keyed(key, text) {
  return [el("kbd", {}, key), " ", text];
}

export function say(text) {
  document.getElementById("live").textContent = text;
}

export const letter = (slot) => String.fromCharCode(65 + slot);
