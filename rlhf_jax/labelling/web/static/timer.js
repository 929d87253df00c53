// Active seconds on a task: time after which nothing was touched for a minute is idle.
const IDLE = 60_000;

export class Timer {
  constructor() {
    this.restart(0);
    for (const kind of ["keydown", "pointerdown", "pointermove", "wheel", "scroll"]) {
      addEventListener(kind, () => this.touch(), { passive: true, capture: true });
    }
    document.addEventListener("visibilitychange", () => this.touch());
  }

  restart(seconds) {
    this.active = seconds * 1000;
    this.last = performance.now();
  }

  touch() {
    const now = performance.now();
    this.active += Math.min(now - this.last, IDLE);
    this.last = now;
  }

  seconds() {
    this.touch();
    return Math.round(this.active) / 1000;
  }
}
