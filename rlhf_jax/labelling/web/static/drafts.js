// Drafts: kept in this browser at once, on the server a moment later.
import { call, Refused, Unreachable } from "/static/requests.js";

const DELAY = 400; // milliseconds after the last change

export class Drafts {
  constructor({ waiting, conflict }) {
    Object.assign(this, { waiting, conflict, timer: null, running: null });
  }

  open(task) {
    this.task = task.id;
    this.version = task.draft.version;
    clearTimeout(this.timer);
    const kept = JSON.parse(localStorage.getItem(this.key()) || "null");
    // What this browser typed after its last word with the server comes first.
    return kept && kept.version === this.version ? kept.content : task.draft.content;
  }

  key() {
    return `draft-${this.task}`;
  }

  change(content) {
    this.content = content;
    localStorage.setItem(this.key(), JSON.stringify({ version: this.version, content }));
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.save(), DELAY);
  }

  async save() {
    clearTimeout(this.timer);
    if (this.running) await this.running.catch(() => {});
    if (this.content === undefined) return;
    const { task, content, version } = this;
    this.running = call("PUT", `/api/tasks/${task}/draft`, { version, content });
    try {
      const found = await this.running;
      if (this.task !== task) return;
      this.version = found.version;
      this.waiting(false);
      if (this.content === content) {
        this.content = undefined;
        localStorage.removeItem(this.key());
      } else {
        this.change(this.content);
      }
    } catch (error) {
      if (this.task !== task) return;
      if (error instanceof Unreachable) {
        this.waiting(true);
        this.timer = setTimeout(() => this.save(), 3000);
      } else if (error instanceof Refused) {
        this.conflict(error);
      }
    }
  }

  // Nothing is on its way any more, so that an answer cannot overtake its own draft.
  async settle() {
    clearTimeout(this.timer);
    await this.running?.catch(() => {});
  }

  close() {
    clearTimeout(this.timer);
    this.content = undefined;
    localStorage.removeItem(this.key());
    this.task = null;
  }
}
