// Questions as native inputs: scales, ticks, choices, texts.
import { el } from "/static/dom.js";

let made = 0;

export function question(field, value, changed, key) {
  const id = `q${(made += 1)}`;
  const build = { scale, yes_no: tick, choice, text }[field.type];
  return build(field, value, changed, id, key);
}

function scale(field, value, changed, id) {
  const options = [];
  for (let n = field.low; n <= field.high; n += 1) {
    const anchor = (field.anchors || {})[n];
    const input = el("input", {
      type: "radio", name: id, value: n, checked: value === n,
      "aria-label": anchor ? `${n}, ${anchor}` : `${n}`,
    });
    input.addEventListener("change", () => changed(field.name, n));
    options.push(el("label", { class: "step" }, input, el("span", { class: "step-number" }, String(n)), el("span", { class: "anchor" }, anchor || "")));
  }
  return el(
    "fieldset", { class: "scale", "data-field": field.name },
    el("legend", {}, field.label, field.required ? null : el("span", { class: "muted" }, " (if you like)")),
    field.help ? el("p", { class: "muted" }, field.help) : null,
    el("div", { class: "steps" }, ...options),
  );
}

function tick(field, value, changed, id, key) {
  const input = el("input", { type: "checkbox", id, checked: value === true });
  input.addEventListener("change", () => changed(field.name, input.checked));
  return el(
    "label", { class: "tick", for: id, "data-field": field.name, title: field.help || null },
    input, key ? el("kbd", {}, key) : null, el("span", {}, field.label),
  );
}

function choice(field, value, changed, id) {
  const select = el(
    "select", { id },
    el("option", { value: "" }, "–"),
    ...field.options.map((option) => el("option", { value: option, selected: option === value }, option.replaceAll("_", " "))),
  );
  select.addEventListener("change", () => changed(field.name, select.value || null));
  return el("div", { class: "stack", "data-field": field.name }, el("label", { for: id }, field.label), select);
}

function text(field, value, changed, id) {
  const area = el("textarea", { id, rows: "2", dir: "auto" });
  area.value = value || "";
  area.addEventListener("input", () => changed(field.name, area.value));
  return el(
    "details", { class: "note", open: Boolean(value), "data-field": field.name },
    el("summary", {}, field.label),
    el("label", { class: "visually-hidden", for: id }, field.label), area,
  );
}

export const missing = (fields, values) =>
  fields.find((f) => f.required && (values[f.name] === undefined || values[f.name] === null));
