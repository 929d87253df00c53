// Two models answer live, side by side; the person says which they would keep.
import { el } from "/static/dom.js";
import { question } from "/static/fields.js";
import { chooser, choiceKey, pressed } from "/static/pairwise.js";
import { call } from "/static/requests.js";
import { shownText } from "/static/texts.js";

export class Chat {
  keys = [["Ctrl Enter", "send the message, while you write"], ["Esc", "leave the message, so that other keys work"], ["a b t x", "A, B, a tie, both bad"], ["Enter", "send the answer"]];

  constructor(task, page) {
    Object.assign(this, { task, page, talk: task.talk, busy: false });
    this.state = { choice: null, message: "", fields: {} };
  }

  restore(content) { this.state = { choice: content.choice || null, message: content.message || "", fields: content.fields || {} }; }
  content() { return this.state; }
  place() { return {}; }
  go() { this.draw(); }

  draw() {
    const { task, state, page } = this;
    const turns = this.talk.map((turn) =>
      el("div", { class: "stack" },
        el("div", { class: "turn user" }, el("p", { class: "role" }, "You"), shownText(turn.message)),
        el("div", { class: "sides" }, ...turn.replies.map((text, side) =>
          el("div", { class: "turn assistant" }, el("p", { class: "role" }, side ? "B" : "A"), shownText(text))))));
    const box = el("textarea", { id: "message", rows: "3", dir: "auto" });
    box.value = state.message;
    box.addEventListener("input", () => { state.message = box.value; page.changed(); });
    const changed = (name, value) => { state.fields[name] = value; page.changed(); };
    page.main.replaceChildren(
      el("section", { class: "card stack", "aria-label": task.title },
        ...turns,
        el("label", { for: "message" }, "Your message"), box,
        el("div", { class: "row end" }, el("button", { type: "button", id: "say", onclick: () => this.say() }, "Send message")),
        ...(this.talk.length ? [el("h2", {}, task.question), chooser(state, page)] : []),
        ...task.item_fields.map((f) => question(f, state.fields[f.name], changed)),
        this.talk.length ? el("div", { class: "row end" }, el("button", { type: "button", class: "primary", id: "send", onclick: () => page.send() }, "Send answer")) : null));
    pressed(state);
    box.focus();
  }

  async say() {
    const message = this.state.message.trim();
    if (!message || this.busy) return;
    this.busy = true;
    const button = document.getElementById("say");
    button.disabled = true;
    button.textContent = "They are answering…";
    try {
      const found = await call("POST", `/api/tasks/${this.task.id}/chat`, { message });
      this.talk = found.talk;
      this.state.message = "";
      this.page.changed();
    } catch (error) {
      this.page.complain(error.message);
    }
    this.busy = false;
    this.draw();
  }

  problem() {
    if (!this.talk.length) return { text: "Talk with them first." };
    return this.state.choice ? null : { text: "Which is better? a, b, t or x." };
  }

  key(event) {
    if (event.key === "Enter") {
      if (document.activeElement?.id === "message") this.say();
      else this.page.send();
      return true;
    }
    return this.talk.length ? choiceKey(this.state, this.page, event.key) : false;
  }
}
