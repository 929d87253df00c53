// The paper's two steps: each response alone, then all of them together.
import { el, keyed, letter, say } from "/static/dom.js";
import { missing, question } from "/static/fields.js";
import { shownText } from "/static/texts.js";

const FLAG_KEYS = "1234567890-";

export class Ranking {
  keys = [
    ["1 … 7", "quality of this response (first step)"],
    ["f", "flags: then 1, 2, … tick; f or Esc leaves"],
    ["← →", "response before, next (first step)"],
    ["Enter", "on; at the end: send"],
    ["1 … 9", "rank of the chosen response (second step)"],
    ["=", "same rank as the one above"],
    ["↑ ↓", "choose a response (second step)"],
    ["v", "uncover a blurred text"],
  ];

  constructor(task, page) {
    Object.assign(this, { task, page, flagging: false });
    this.count = task.item.texts.length;
    this.state = {
      slots: Array.from({ length: this.count }, () => ({ rank: null, fields: {} })),
      fields: {},
      view: { step: "rate", at: 0 },
    };
    if (this.count === 1) this.state.slots[0].rank = 1;
    this.flags = task.response_fields.filter((f) => f.type === "yes_no");
    this.scales = task.response_fields.filter((f) => f.type === "scale");
    if (!task.response_fields.length) this.state.view.step = "rank";
  }

  restore(content) {
    const slots = content.slots || [];
    if (slots.length !== this.count) return;
    this.state.slots = slots.map((s) => ({ rank: s.rank ?? null, fields: s.fields || {} }));
    this.state.fields = content.fields || {};
    if (content.view) this.state.view = content.view;
    else if (this.problem() === null) this.state.view = { step: "rank", at: 0 };
  }

  content() {
    return this.state;
  }

  // Where the page stands, for the history of the browser.
  place() {
    return { ...this.state.view };
  }

  go(view, remember = true) {
    this.flagging = false;
    this.state.view = view;
    this.page.changed();
    if (remember) this.page.remember();
    this.draw();
  }

  problem() {
    for (let slot = 0; slot < this.count; slot += 1) {
      const lacking = missing(this.task.response_fields, this.state.slots[slot].fields);
      if (lacking) return { slot, text: `${letter(slot)}: ${lacking.label} is missing.`, step: "rate" };
    }
    const unranked = this.state.slots.findIndex((s) => s.rank === null);
    if (unranked >= 0) return { slot: unranked, text: `${letter(unranked)} has no rank yet.`, step: "rank" };
    return null;
  }

  set(slot, name, value) {
    this.page.mark();
    this.state.slots[slot].fields[name] = value;
    this.page.changed();
    this.refresh();
  }

  rank(slot, value) {
    this.page.mark();
    this.state.slots[slot].rank = value;
    this.page.changed();
    this.refresh();
    const tied = this.state.slots.flatMap((s, i) => (i !== slot && s.rank === value ? [letter(i)] : []));
    say(`${letter(slot)}: rank ${value}${tied.length ? `, with ${tied.join(" and ")}` : ""}`);
  }

  draw() {
    const { step } = this.state.view;
    this.page.main.replaceChildren(step === "rate" ? this.rating() : this.ranking());
    this.refresh();
    this.focus();
  }

  // First step: one response alone.
  rating() {
    const slot = this.state.view.at;
    const values = this.state.slots[slot].fields;
    const changed = (name, value) => this.set(slot, name, value);
    const last = slot === this.count - 1;
    const flags = this.flags.map((f, i) => question(f, values[f.name], changed, FLAG_KEYS[i]));
    return el(
      "section", { class: "step-rate", "aria-label": "Rate each response" },
      el("ol", { class: "dots", "aria-label": "Responses" },
        ...this.state.slots.map((_, i) =>
          el("li", {}, el("button", { type: "button", "data-dot": i, "aria-label": `Response ${letter(i)}`, onclick: () => this.go({ step: "rate", at: i }) }, letter(i)))),
        el("li", {}, el("button", { type: "button", "data-dot": "rank", onclick: () => this.forward("rank") }, "Rank all"))),
      el("article", { class: "card response", id: "current", tabindex: "-1", "aria-label": `Response ${letter(slot)} of ${this.count}` },
        el("h2", { class: "card-head" }, `Response ${letter(slot)}`, el("span", { class: "muted" }, ` ${slot + 1} of ${this.count}`)),
        shownText(this.task.item.texts[slot], { veiled: this.task.sensitive }),
        ...this.scales.map((f) => question(f, values[f.name], changed)),
        flags.length ? el("fieldset", { class: "flags" }, el("legend", {}, "What applies ", el("span", { class: "muted" }, ...keyed("f", "then a key"))), el("div", { class: "ticks" }, ...flags)) : null,
        ...this.task.response_fields.filter((f) => f.type === "choice" || f.type === "text").map((f) => question(f, values[f.name], changed)),
        el("div", { class: "row end" },
          slot > 0 ? el("button", { type: "button", onclick: () => this.go({ step: "rate", at: slot - 1 }) }, "Back") : null,
          el("button", { type: "button", class: "primary", id: "next", onclick: () => this.enter() }, last ? "Rank all" : "Next response"))),
    );
  }

  // Second step: all responses together.
  ranking() {
    const cards = this.task.item.texts.map((text, slot) => {
      const options = Array.from({ length: this.count }, (_, i) =>
        el("button", { type: "button", tabindex: "-1", "data-rank": i + 1, "aria-label": `Rank ${i + 1} for response ${letter(slot)}`,
          onclick: () => { this.choose(slot); this.rank(slot, i + 1); } }, String(i + 1)));
      const scale = this.scales[0];
      const given = scale ? this.state.slots[slot].fields[scale.name] : null;
      const card = el("article", { class: "card choice", tabindex: "0", role: "group", "data-slot": slot, "aria-label": `Response ${letter(slot)}` },
        el("div", { class: "card-head" },
          el("h3", {}, `Response ${letter(slot)}`),
          given ? el("span", { class: "badge", title: scale.label }, `${given} of ${scale.high}`) : null,
          el("button", { type: "button", class: "quiet small", tabindex: "-1", onclick: () => this.go({ step: "rate", at: slot }) }, "Rate again")),
        shownText(text, { most: 700, veiled: this.task.sensitive }),
        el("div", { class: "ranks" }, el("span", { class: "muted" }, "Rank"), ...options));
      card.addEventListener("focus", () => this.choose(slot, false));
      return card;
    });
    const changed = (name, value) => { this.state.fields[name] = value; this.page.changed(); };
    return el("section", { class: "step-rank", "aria-label": "Rank all responses" },
      el("h2", {}, this.task.question),
      el("p", { id: "order", class: "order", "aria-live": "off" }),
      ...cards,
      ...this.task.item_fields.map((f) => question(f, this.state.fields[f.name], changed)),
      el("div", { class: "row end" },
        this.task.response_fields.length ? el("button", { type: "button", onclick: () => this.go({ step: "rate", at: this.count - 1 }) }, "Back") : null,
        el("button", { type: "button", class: "primary", id: "send", onclick: () => this.page.send() }, "Send")));
  }

  // What changes without drawing anew, so that the focus stays where it is.
  refresh() {
    const { step, at } = this.state.view;
    for (const dot of document.querySelectorAll("[data-dot]")) {
      const slot = Number(dot.dataset.dot);
      const done = dot.dataset.dot !== "rank" && !missing(this.task.response_fields, this.state.slots[slot].fields);
      dot.classList.toggle("done", done);
      if (step === "rate" && slot === at) dot.setAttribute("aria-current", "step");
    }
    if (step === "rate") {
      const values = this.state.slots[at].fields;
      for (const input of document.querySelectorAll(".scale input")) {
        const name = input.closest("[data-field]").dataset.field;
        input.checked = values[name] === Number(input.value);
      }
      for (const input of document.querySelectorAll(".flags input")) {
        input.checked = values[input.closest("[data-field]").dataset.field] === true;
      }
      document.querySelector(".flags")?.classList.toggle("on", this.flagging);
      return;
    }
    for (const card of document.querySelectorAll("[data-slot]")) {
      const { rank } = this.state.slots[Number(card.dataset.slot)];
      card.classList.toggle("chosen", Number(card.dataset.slot) === at);
      card.setAttribute("aria-label", `Response ${letter(Number(card.dataset.slot))}, ${rank ? `rank ${rank}` : "no rank yet"}`);
      for (const button of card.querySelectorAll("[data-rank]")) {
        button.setAttribute("aria-pressed", String(Number(button.dataset.rank) === rank));
      }
    }
    document.getElementById("order").replaceChildren(...this.order());
  }

  // "B > A = D > C"
  order() {
    const ranks = [...new Set(this.state.slots.map((s) => s.rank).filter((r) => r !== null))].sort((a, b) => a - b);
    if (!ranks.length) return [el("span", { class: "muted" }, "No ranks yet. 1 is the best; ties are welcome.")];
    return ranks.flatMap((rank, i) => {
      const names = this.state.slots.flatMap((s, slot) => (s.rank === rank ? [letter(slot)] : []));
      return [i ? el("span", { class: "muted" }, " › ") : "", el("strong", {}, names.join(" = "))];
    });
  }

  choose(slot, focus = true) {
    this.state.view.at = slot;
    this.refresh();
    const card = document.querySelector(`[data-slot="${slot}"]`);
    if (focus && card) {
      card.focus({ preventScroll: true });
      card.scrollIntoView({ block: "nearest" });
    }
  }

  focus() {
    const { step, at } = this.state.view;
    if (step === "rank") this.choose(Math.min(at, this.count - 1));
    else document.getElementById("current").focus({ preventScroll: true });
    if (step === "rate") scrollTo({ top: 0 });
  }

  forward(step) {
    const lacking = this.problem();
    if (lacking && lacking.step === "rate") {
      if (lacking.slot !== this.state.view.at) this.go({ step: "rate", at: lacking.slot });
      return this.page.complain(lacking.text);
    }
    this.go({ step, at: 0 });
  }

  enter() {
    const { step, at } = this.state.view;
    if (step === "rank") return this.page.send();
    const lacking = missing(this.task.response_fields, this.state.slots[at].fields);
    if (lacking) return this.page.complain(`${lacking.label} is missing.`);
    if (at < this.count - 1) return this.go({ step: "rate", at: at + 1 });
    return this.forward("rank");
  }

  // Returns whether the key was for us.
  key(event) {
    const { step, at } = this.state.view;
    if (event.key === "Enter") return this.enter(), true;
    if (step === "rate") return this.rateKey(event.key, at);
    if (event.key >= "1" && event.key <= "9") {
      if (Number(event.key) <= this.count) this.rank(at, Number(event.key));
      else this.page.complain(`There are ${this.count} responses.`);
      return true;
    }
    if (event.key === "=") {
      const above = at > 0 ? this.state.slots[at - 1].rank : null;
      if (above === null) this.page.complain("The response above has no rank yet.");
      else this.rank(at, above);
      return true;
    }
    if (event.key === "f") return this.go({ step: "rate", at }), this.flag(true), true;
    if (event.key === "ArrowUp" || event.key === "ArrowDown") {
      const next = at + (event.key === "ArrowDown" ? 1 : -1);
      if (next >= 0 && next < this.count) this.choose(next);
      return true;
    }
    return false;
  }

  rateKey(key, at) {
    if (key === "f") return this.flag(!this.flagging), true;
    if (this.flagging) {
      if (key === "Escape") return this.flag(false), true;
      const field = this.flags[FLAG_KEYS.indexOf(key)];
      if (!field || key.length !== 1) return false;
      const value = !this.state.slots[at].fields[field.name];
      this.set(at, field.name, value);
      say(`${field.label}: ${value ? "yes" : "no"}`);
      return true;
    }
    const scale = this.scales[0];
    if (scale && /^[0-9]$/.test(key) && Number(key) >= scale.low && Number(key) <= scale.high) {
      this.set(at, scale.name, Number(key));
      say(`${scale.label}: ${key}`);
      return true;
    }
    if (key === "ArrowLeft" && at > 0) return this.go({ step: "rate", at: at - 1 }), true;
    if (key === "ArrowRight" && at < this.count - 1) return this.go({ step: "rate", at: at + 1 }), true;
    return false;
  }

  flag(on) {
    this.flagging = on && this.flags.length > 0;
    this.refresh();
    if (this.flagging) document.querySelector(".flags")?.scrollIntoView({ block: "nearest" });
    say(this.flagging ? "Flags: keys 1, 2, … tick" : "Flags left");
  }
}
