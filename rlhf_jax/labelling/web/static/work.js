// The page on which a person works: gets a task, keeps its draft, sends it, goes on.
import { Chat } from "/static/chat.js";
import { el, keyed, say } from "/static/dom.js";
import { Drafts } from "/static/drafts.js";
import { Flags } from "/static/flags.js";
import { Pairwise } from "/static/pairwise.js";
import { Ranking } from "/static/ranking.js";
import { call, insist, Refused, token } from "/static/requests.js";
import { conversation } from "/static/texts.js";
import { Timer } from "/static/timer.js";
import { Demonstration, PromptWriting } from "/static/writing.js";

const KINDS = { ranking: Ranking, pairwise: Pairwise, flags: Flags, demonstration: Demonstration, prompt: PromptWriting, chat: Chat };
const at = (id) => document.getElementById(id);

class Page {
  constructor() {
    this.timer = new Timer();
    this.drafts = new Drafts({ waiting: (on) => this.waiting(on), conflict: (error) => this.conflict(error) });
    this.sent = [];
    this.busy = false;
    at("undo").addEventListener("click", () => this.undo());
    at("skip").addEventListener("click", () => this.askSkip());
    at("help").addEventListener("click", () => at("help-dialog").showModal());
    at("skip-cancel").addEventListener("click", () => at("skip-dialog").close());
    at("skip-dialog").addEventListener("close", () => this.skip());
    at("back-undo").addEventListener("click", () => { at("back-dialog").close(); this.undoSent(this.backTo); });
    at("back-dialog").addEventListener("close", () => this.remember());
    addEventListener("popstate", (event) => this.back(event.state));
    document.addEventListener("keydown", (event) => this.key(event));
  }

  async next() {
    this.busy = true;
    try {
      const { task, progress } = await insist("POST", "/api/claim", {}, (on) => this.waiting(on));
      this.progress(progress);
      if (task) this.show(task);
      else this.nothing();
    } catch (error) {
      this.refused(error);
    }
    this.busy = false;
  }

  show(task) {
    this.task = task;
    at("task").dataset.task = task.id;
    this.token = token();
    this.past = [];
    this.main = el("div", { class: "answer" });
    const seen = el("aside", { class: "given", "aria-label": "Prompt" },
      el("div", { class: "card-head" }, el("h1", {}, task.title),
        el("a", { href: `/guidelines/${task.guideline.id}`, target: "_blank", rel: "noopener" }, "Instructions")),
      el("h2", { class: "muted small-head" }, task.kind === "prompt" ? "What for" : task.kind === "chat" ? "Talk about" : "Prompt"),
      conversation(task.item.turns, { veiled: task.sensitive }));
    at("task").replaceChildren(el("div", { class: `task ${task.kind}` }, seen, this.main));
    at("task").removeAttribute("aria-busy");
    this.view = new KINDS[task.kind](task, this);
    const draft = this.drafts.open(task);
    if (draft) this.view.restore(draft);
    this.timer.restart(draft?.active_seconds || 0);
    this.help();
    history.replaceState({ task: task.id, place: this.view.place() }, "");
    this.view.draw();
    say(`${task.title}. ${task.question}`);
  }

  nothing() {
    this.task = null;
    at("task").dataset.task = "none";
    at("task").removeAttribute("aria-busy");
    at("task").replaceChildren(el("section", { class: "card stack" },
      el("h1", {}, "Nothing to do now"),
      el("p", {}, "Thank you. When there is more, it appears here."),
      el("div", { class: "row" }, el("button", { type: "button", class: "primary", onclick: () => this.next() }, "Look again"))));
  }

  progress({ today, total, minutes, pace, open }) {
    const parts = [`${today} today`, `${total} in all`];
    if (pace) parts.push(`${Math.round(pace)} an hour (${minutes} min active)`);
    parts.push(open === 1 ? "1 place open" : `${open} places open`);
    at("progress").textContent = parts.join(" · ");
  }

  // The view calls these: something changed, remember how it was, a step was taken.
  changed() {
    this.quiet();
    const content = { ...this.view.content(), active_seconds: this.timer.seconds() };
    this.drafts.change(structuredClone(content));
  }

  mark() {
    this.past.push(structuredClone(this.view.content()));
    if (this.past.length > 100) this.past.shift();
  }

  remember() {
    if (this.task) history.pushState({ task: this.task.id, place: this.view.place() }, "");
  }

  async send() {
    if (!this.task || this.busy) return;
    const problem = this.view.problem();
    if (problem) {
      if (problem.step && this.view.place().step !== problem.step) this.view.go({ step: problem.step, at: problem.slot });
      else if (problem.slot !== undefined && this.view.choose) this.view.choose(problem.slot);
      return this.complain(problem.text);
    }
    await this.close(`/api/tasks/${this.task.id}/submit`, { token: this.token, content: answer(this.view.content()), seconds: this.timer.seconds() }, "Sent.");
  }

  async close(path, body, told) {
    const { id } = this.task;
    this.busy = true;
    at("task").setAttribute("aria-busy", "true");
    try {
      await this.drafts.settle();
      await insist("POST", path, body, (on) => this.waiting(on));
      this.drafts.close();
      this.sent.push(id);
      this.remember();
      await this.next();
      this.note(told);
    } catch (error) {
      this.refused(error);
    }
    at("task").removeAttribute("aria-busy");
    this.busy = false;
  }

  askSkip() {
    if (!this.task) return;
    const reasons = this.task.skip_reasons.map((reason, i) =>
      el("label", { class: "tick" }, el("input", { type: "radio", name: "reason", value: reason, checked: i === 0 }), el("kbd", {}, String(i + 1)), reason));
    at("skip-reasons").replaceChildren(...reasons);
    at("skip-text").value = "";
    at("skip-dialog").returnValue = "";
    at("skip-dialog").showModal();
    at("skip-reasons").querySelector("input").focus();
  }

  async skip() {
    if (at("skip-dialog").returnValue !== "skip") return;
    const chosen = at("skip-reasons").querySelector("input:checked").value;
    const words = at("skip-text").value.trim();
    await this.close(`/api/tasks/${this.task.id}/skip`, { reason: words ? `${chosen}: ${words}` : chosen }, "Skipped.");
  }

  undo() {
    if (this.busy) return;
    if (this.task && this.past.length) {
      this.view.restore(this.past.pop());
      this.drafts.change({ ...this.view.content(), active_seconds: this.timer.seconds() });
      this.view.draw();
      say("Undone.");
    } else if (this.sent.length) {
      this.undoSent(this.sent.pop());
    } else {
      this.complain("There is nothing to undo here. Older answers are under My answers.");
    }
  }

  async undoSent(id) {
    try {
      if (this.task) await this.drafts.save();
      const { task } = await call("POST", `/api/tasks/${id}/undo`, {});
      this.sent = this.sent.filter((other) => other !== id);
      this.show(task);
      this.note("Taken back. Send it again when it is right.");
    } catch (error) {
      this.complain(error.message);
    }
  }

  // The Back button: a step of this task, or a task that is sent already.
  back(state) {
    if (!state || !this.task) return;
    if (state.task === this.task.id) {
      if (state.place.step) this.view.go(state.place, false);
    } else if (!at("back-dialog").open) {
      this.backTo = state.task;
      at("back-dialog").showModal();
    }
  }

  key(event) {
    if (document.querySelector("dialog[open]")) return this.dialogKey(event);
    const writes = event.target.matches("textarea, select, input:not([type=radio]):not([type=checkbox])");
    const sends = event.key === "Enter" && (event.ctrlKey || event.metaKey);
    if (writes && event.key === "Escape") return event.target.blur();
    if ((writes && !sends) || event.altKey || ((event.ctrlKey || event.metaKey) && !sends)) return;
    const presses = event.target.matches("button, a, summary") && !event.target.closest("[data-slot]");
    if (presses && (event.key === "Enter" || event.key === " ")) return;
    const moves = event.target.matches("input[type=radio]") && event.key.startsWith("Arrow");
    if (moves || event.repeat) return;
    const own = { u: () => this.undo(), s: () => this.askSkip(), "?": () => at("help-dialog").showModal(), v: () => this.unveil() }[event.key];
    if (own) {
      event.preventDefault();
      own();
    } else if (this.task && !this.busy && this.view.key(event)) {
      event.preventDefault();
    }
  }

  dialogKey(event) {
    if (!at("skip-dialog").open || event.target.matches("textarea")) return;
    const inputs = at("skip-reasons").querySelectorAll("input");
    if (event.key >= "1" && event.key <= "9" && inputs[event.key - 1]) inputs[event.key - 1].checked = true;
    if (event.key === "Enter" && !event.target.matches("button")) {
      event.preventDefault();
      at("skip-dialog").close("skip");
    }
  }

  unveil() {
    for (const button of document.querySelectorAll(".unveil")) button.click();
  }

  help() {
    const keys = [...this.view.keys, ["u", "undo; at the start of a task: take the last answer back"], ["s", "skip, with a reason"], ["?", "this list"]];
    at("help-keys").replaceChildren(...keys.flatMap(([key, text]) => [el("dt", {}, ...key.split(" ").map((k) => (k === "…" ? " … " : el("kbd", {}, k)))), el("dd", {}, text)]));
    at("help-guideline").href = `/guidelines/${this.task.guideline.id}`;
  }

  // Messages: a lost connection stays until it is back, a complaint until the next step.
  waiting(on) {
    if (on) this.banner("Not connected. What you do is kept in this browser and sent when the connection is back.", "warn");
    else if (at("banner").dataset.kind === "warn") this.quiet(true);
  }

  complain(text) { this.banner(text, "bad"); }
  note(text) { this.banner(text, "good", this.sent.length ? el("button", { type: "button", class: "quiet small", onclick: () => this.undo() }, ...keyed("u", "Undo")) : null); }

  banner(text, kind, more = null) {
    const box = at("banner");
    box.dataset.kind = kind;
    box.replaceChildren(el("span", {}, text), ...(more ? [more] : []));
    box.hidden = false;
  }

  quiet(always = false) {
    if (always || at("banner").dataset.kind !== "warn") at("banner").hidden = true;
  }

  conflict(error) {
    if (error.status === 401) return this.signedOut();
    this.banner(error.message, "bad", el("button", { type: "button", class: "small", onclick: () => { this.drafts.close(); this.next(); } }, "Load it again"));
  }

  refused(error) {
    if (!(error instanceof Refused)) throw error;
    if (error.status === 401) return this.signedOut();
    if (error.status === 409) return this.conflict(error);
    return this.complain(error.message);
  }

  signedOut() {
    this.banner("You are signed out. Your draft is kept in this browser.", "bad", el("a", { href: "/login" }, "Sign in again"));
  }
}

// Without what only the page needs.
function answer({ slots, fields, choice, text, prompt, kind, examples }) {
  return JSON.parse(JSON.stringify({ slots, fields, choice, text, prompt, kind, examples }));
}

new Page().next();
