// Texts of prompts and responses, as text. Only ``` fences are given a look of their own.
import { el } from "/static/dom.js";

const LONG = 2000; // characters after which a text is folded, where nothing else is said
const MANY = 24; // lines

function pieces(text) {
  const found = [];
  const fence = /^```[^\n]*\n([\s\S]*?)(?:^```[ \t]*$|(?![\s\S]))/gm;
  let start = 0;
  for (const match of text.matchAll(fence)) {
    if (match.index > start) found.push(["prose", text.slice(start, match.index)]);
    found.push(["code", match[1]]);
    start = match.index + match[0].length;
  }
  if (start < text.length) found.push(["prose", text.slice(start)]);
  return found;
}

function body(text) {
  return pieces(text).map(([kind, piece]) =>
    kind === "code"
      ? el("pre", { class: "code", dir: "ltr", tabindex: "0" }, piece.replace(/\n$/, ""))
      : el("div", { class: "prose-text", dir: "auto" }, piece.replace(/^\n+|\n+$/g, "")),
  );
}

export function shownText(text, { most = LONG, veiled = false } = {}) {
  const box = el("div", { class: "text-box" });
  if (!text) {
    box.append(el("p", { class: "muted" }, "(nothing was written)"));
    return box;
  }
  const folded = text.length > most || text.split("\n").length > MANY;
  const inner = el("div", { class: folded ? "folded" : "" }, ...body(text));
  box.append(inner);
  if (folded) {
    const button = el("button", { type: "button", class: "quiet small", "aria-expanded": "false" }, "Show all of it");
    button.addEventListener("click", () => {
      const open = inner.classList.toggle("folded") === false;
      button.textContent = open ? "Show less" : "Show all of it";
      button.setAttribute("aria-expanded", String(open));
    });
    box.append(button);
  }
  if (veiled) veil(box, inner);
  return box;
}

function veil(box, inner) {
  inner.classList.add("veiled");
  inner.inert = true;
  const button = el("button", { type: "button", class: "unveil" }, "May be upsetting. Show it");
  button.addEventListener("click", () => {
    inner.classList.remove("veiled");
    inner.inert = false;
    button.remove();
  });
  box.prepend(button);
}

const NAMES = { user: "Person", assistant: "Assistant", system: "Setting" };

export function conversation(turns, options = {}) {
  const single = turns.length === 1 && turns[0].role === "user";
  return el(
    "div",
    { class: "turns" },
    ...turns.map((turn) =>
      el(
        "div",
        { class: `turn ${turn.role === "assistant" ? "assistant" : "user"}` },
        single ? null : el("p", { class: "role" }, NAMES[turn.role] || turn.role),
        shownText(turn.text, options),
      ),
    ),
  );
}
