// What people write: demonstrations and prompts.
import { el } from "/static/dom.js";
import { missing, question } from "/static/fields.js";

const KEYS = [["Ctrl Enter", "send, also while you write"], ["Esc", "leave the text, so that other keys work"]];

function area(id, label, value, changed, rows = 10) {
  const box = el("textarea", { id, rows: String(rows), dir: "auto", spellcheck: "true" });
  box.value = value || "";
  box.addEventListener("input", () => changed(box.value));
  return el("div", { class: "stack" }, el("label", { for: id }, label), box);
}

class Writing {
  keys = KEYS;

  constructor(task, page) {
    Object.assign(this, { task, page, state: { fields: {} } });
  }

  restore(content) { this.state = { ...this.state, ...content, fields: content.fields || {} }; }
  content() { return this.state; }
  place() { return {}; }
  go() { this.draw(); }
  put(name, value) { this.state[name] = value; this.page.changed(); }

  tags(legend) {
    const changed = (name, value) => { this.state.fields[name] = value; this.page.changed(); };
    const made = (fields) => fields.map((f) => question(f, this.state.fields[f.name], changed));
    const ticks = this.task.item_fields.filter((f) => f.type === "yes_no");
    return [
      ...made(this.task.item_fields.filter((f) => f.type !== "yes_no")),
      ticks.length ? el("fieldset", { class: "flags" }, el("legend", {}, legend), el("div", { class: "ticks" }, ...made(ticks))) : null,
    ];
  }

  lacking() {
    const field = missing(this.task.item_fields, this.state.fields);
    return field ? { text: `${field.label} is missing.` } : null;
  }

  end() {
    return el("div", { class: "row end" }, el("button", { type: "button", class: "primary", id: "send", onclick: () => this.page.send() }, "Send"));
  }

  key(event) {
    if (event.key === "Enter") return this.page.send(), true;
    return false;
  }
}

export class Demonstration extends Writing {
  draw() {
    const kind = { "few-shot": "Few-shot prompt: continue what its examples begin.", "user-based": "Prompt from a user's use case." }[this.task.item.kind];
    this.page.main.replaceChildren(
      el("section", { class: "card stack", "aria-label": this.task.title },
        el("h2", {}, this.task.question), kind ? el("p", { class: "muted" }, kind) : null,
        area("text", "Your response", this.state.text, (value) => this.put("text", value)),
        ...this.tags("About the prompt"), this.end()));
    document.getElementById("text").focus();
  }

  problem() {
    if (!(this.state.text || "").trim()) return { text: "The response is empty." };
    return this.lacking();
  }
}

const KINDS = [["plain", "Plain: any task"], ["few-shot", "Few-shot: an instruction and examples"], ["user-based", "User-based: what this user would ask"]];

export class PromptWriting extends Writing {
  constructor(task, page) {
    super(task, page);
    this.state = { kind: task.item.kind, prompt: "", examples: [], fields: {} };
  }

  draw() {
    const { state } = this;
    const radios = KINDS.map(([kind, text]) => {
      const input = el("input", { type: "radio", name: "kind", value: kind, checked: state.kind === kind });
      input.addEventListener("change", () => { this.put("kind", kind); this.draw(); });
      return el("label", { class: "tick" }, input, text);
    });
    const few = state.kind === "few-shot";
    while (few && state.examples.length < 2) state.examples.push({ query: "", response: "" });
    this.page.main.replaceChildren(
      el("section", { class: "card stack", "aria-label": this.task.title },
        el("h2", {}, this.task.question),
        el("fieldset", { class: "flags" }, el("legend", {}, "Kind of prompt"), ...radios),
        area("prompt", few ? "Instruction" : "Your prompt", state.prompt, (value) => this.put("prompt", value), few ? 4 : 8),
        ...(few ? this.examples() : []),
        ...this.tags("About your prompt"), this.end()));
    document.getElementById("prompt").focus();
  }

  examples() {
    const { examples } = this.state;
    const rows = examples.map((example, i) =>
      el("fieldset", { class: "example" }, el("legend", {}, `Example ${i + 1}`),
        ...["query", "response"].map((name) =>
          area(`${name}-${i}`, name === "query" ? "Query" : "Response", example[name], (value) => { example[name] = value; this.page.changed(); }, 2))));
    const more = () => { examples.push({ query: "", response: "" }); this.page.changed(); this.draw(); };
    return [...rows, el("div", { class: "row" }, el("button", { type: "button", onclick: more }, "One more example"))];
  }

  problem() {
    if (!this.state.prompt.trim()) return { text: "The prompt is empty." };
    if (this.state.kind === "few-shot" && this.state.examples.some((e) => !e.query.trim() || !e.response.trim())) return { text: "An example is not complete." };
    return this.lacking();
  }
}
