// Two responses side by side: the first, the second, a tie, or both bad.
import { el, keyed, letter } from "/static/dom.js";
import { missing, question } from "/static/fields.js";
import { shownText } from "/static/texts.js";

export const CHOICES = [
  ["a", "first", "A is better"],
  ["t", "tie", "A tie"],
  ["x", "both_bad", "Both are bad"],
  ["b", "second", "B is better"],
];

export function chooser(state, page) {
  const buttons = CHOICES.map(([key, value, text]) =>
    el("button", { type: "button", class: "choose", "data-choice": value, onclick: () => choose(state, page, value) }, ...keyed(key, text)));
  return el("div", { class: "choices", role: "group", "aria-label": "Which is better?" }, ...buttons);
}

export function choose(state, page, value) {
  page.mark();
  state.choice = value;
  page.changed();
  pressed(state);
}

export function pressed(state) {
  for (const button of document.querySelectorAll("[data-choice]")) {
    button.setAttribute("aria-pressed", String(button.dataset.choice === state.choice));
  }
}

export function choiceKey(state, page, key) {
  const found = CHOICES.find(([name]) => name === key)
    || { ArrowLeft: CHOICES[0], ArrowRight: CHOICES[3], "=": CHOICES[1] }[key];
  if (!found) return false;
  choose(state, page, found[1]);
  return true;
}

export class Pairwise {
  keys = [["a ←", "A is better"], ["b →", "B is better"], ["t =", "a tie"], ["x", "both are bad"], ["Enter", "send"]];

  constructor(task, page) {
    Object.assign(this, { task, page });
    this.state = { choice: null, slots: [{ fields: {} }, { fields: {} }], fields: {} };
  }

  restore(content) {
    const slots = content.slots || this.state.slots;
    this.state = { choice: content.choice || null, slots, fields: content.fields || {} };
  }

  content() { return this.state; }
  place() { return {}; }
  go() { this.draw(); }

  draw() {
    const { task, state, page } = this;
    const side = (slot) => {
      const changed = (name, value) => { page.mark(); state.slots[slot].fields[name] = value; page.changed(); };
      return el("article", { class: "card response", "aria-label": `Response ${letter(slot)}` },
        el("h2", { class: "card-head" }, `Response ${letter(slot)}`),
        shownText(task.item.texts[slot], { veiled: task.sensitive }),
        ...task.response_fields.map((f) => question(f, state.slots[slot].fields[f.name], changed)));
    };
    const changed = (name, value) => { state.fields[name] = value; page.changed(); };
    page.main.replaceChildren(
      el("section", { "aria-label": task.question },
        el("h2", {}, task.question),
        el("div", { class: "sides" }, side(0), side(1)),
        chooser(state, page),
        ...task.item_fields.map((f) => question(f, state.fields[f.name], changed)),
        el("div", { class: "row end" }, el("button", { type: "button", class: "primary", id: "send", onclick: () => page.send() }, "Send"))));
    pressed(state);
  }

  problem() {
    for (const [slot, { fields }] of this.state.slots.entries()) {
      const lacking = missing(this.task.response_fields, fields);
      if (lacking) return { text: `${letter(slot)}: ${lacking.label} is missing.` };
    }
    return this.state.choice ? null : { text: "Which is better? a, b, t or x." };
  }

  key(event) {
    if (event.key === "Enter") return this.page.send(), true;
    return choiceKey(this.state, this.page, event.key);
  }
}
