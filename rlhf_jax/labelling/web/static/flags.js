// Each text by itself: as the first step of a ranking, without the second.
import { Ranking } from "/static/ranking.js";

export class Flags extends Ranking {
  constructor(task, page) {
    super(task, page);
    this.keys = this.keys.filter(([, text]) => !text.includes("second step"));
    for (const slot of this.state.slots) slot.rank = 1;
  }

  restore(content) {
    super.restore(content);
    for (const slot of this.state.slots) slot.rank = 1;
    if (this.state.view.step === "rank") this.state.view = { step: "rate", at: 0 };
  }

  rating() {
    const section = super.rating();
    section.querySelector('[data-dot="rank"]').parentElement.remove();
    if (this.state.view.at === this.count - 1) section.querySelector("#next").textContent = "Send";
    return section;
  }

  forward() {
    return this.page.send();
  }
}
