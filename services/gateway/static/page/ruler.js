// One axis of time: a slider with a mark at each change, a date field, the changes before and after, and now.

import { el } from "./dom.js";
import { legible, scaleOver } from "./scale.js";
import { dateValue, day, exactly, ms, startOfDay } from "./time.js";

const STEPS = 10_000;
const SNAP = 0.012; // of the ruler's length: about a thumb's width on a small screen
const LABEL_PX = 46;
const SETTLE_MS = 200; // several steps in a row ask once

const setPlace = (node, place) => node.style.setProperty("--at", place);

/**
 * A ruler in `root`. `name` is what it measures, `nowLabel` what its open end is called; `moved(iso or null)` is called
 * when a person has settled on an instant, null for now.
 */
export class Ruler {
  constructor(root, { name, nowLabel, moved, shown = () => {} }) {
    Object.assign(this, { name, nowLabel, moved, shown, ticks: [], value: null });
    this.marks = el("div", { class: "marks", "aria-hidden": "true" });
    this.slider = el("input", { type: "range", min: 0, max: STEPS, step: 1, "aria-label": name });
    this.date = el("input", { type: "date", "aria-label": `${name}: the date`, min: "0001-01-01", max: "9999-12-30" });
    this.before = el("button", { type: "button", class: "quiet" }, "◂ Change before");
    this.after = el("button", { type: "button", class: "quiet" }, "Change after ▸");
    this.now = el("button", { type: "button", class: "quiet" }, nowLabel);
    root.replaceChildren(
      el("p", { class: "axis", "aria-hidden": "true" }, name),
      el("div", { class: "scale" }, this.marks, this.slider),
      el("div", { class: "steps" }, this.before, this.date, this.now, this.after),
    );
    this.#listen();
    this.setTicks([]);
    new ResizeObserver(() => this.#draw()).observe(this.marks);
  }

  /** `ticks` as the gateway tells them, in order of time. */
  setTicks(ticks) {
    this.ticks = ticks.map((tick) => ({ ...tick, ms: ms(tick.at) }));
    this.clock = Date.now();
    this.scale = scaleOver([...new Set(this.ticks.map((tick) => tick.ms))], this.clock);
    this.#draw();
    this.#stand(this.value);
  }

  /** Stand at an instant without telling anyone; null is now. */
  show(iso) {
    clearTimeout(this.settling);
    this.settling = null;
    this.#stand(iso);
  }

  /** Tell at once what would be told in a moment. */
  flush() {
    if (!this.settling) return;
    this.show(this.value);
    this.moved(this.value);
  }

  #stand(iso) {
    this.value = iso;
    const said = iso ? exactly(iso) : this.nowLabel;
    this.slider.value = Math.round(this.scale.place(iso ? ms(iso) : this.clock) * STEPS);
    this.slider.setAttribute("aria-valuetext", said);
    this.slider.title = said;
    this.date.value = iso ? dateValue(iso) : "";
    this.now.setAttribute("aria-pressed", String(iso === null));
    this.before.disabled = !this.#neighbour(-1);
    this.after.disabled = iso === null && !this.#neighbour(1);
    this.shown(iso);
  }

  #settle(iso) {
    this.show(iso);
    this.settling = setTimeout(() => this.flush(), SETTLE_MS);
  }

  #listen() {
    const at = () => this.#read(Number(this.slider.value) / STEPS);
    this.slider.addEventListener("input", () => this.show(at()));
    this.slider.addEventListener("change", () => this.#settle(this.value));
    this.slider.addEventListener("keydown", (event) => this.#key(event));
    this.date.addEventListener("change", () => this.#settle(this.date.value ? `${this.date.value}T00:00:00Z` : null));
    this.before.addEventListener("click", () => this.#step(-1));
    this.after.addEventListener("click", () => this.#step(1));
    this.now.addEventListener("click", () => this.#settle(null));
  }

  #key(event) {
    const steps = { ArrowLeft: -1, ArrowDown: -1, PageDown: -1, ArrowRight: 1, ArrowUp: 1, PageUp: 1 };
    if (event.key in steps) this.#step(steps[event.key]);
    else if (event.key === "Home") this.#settle(startOfDay(this.scale.instants[0]));
    else if (event.key === "End") this.#settle(null);
    else return;
    event.preventDefault();
  }

  /** To the change before or after; beyond the last one is now. */
  #step(direction) {
    const tick = this.#neighbour(direction);
    if (tick) this.#settle(tick.at);
    else if (direction > 0) this.#settle(null);
  }

  /** The nearest change on one side. From an exact change it is another one, however close. */
  #neighbour(direction) {
    const here = this.value ? ms(this.value) : this.clock;
    const on = this.ticks.findIndex((tick) => tick.at === this.value);
    if (on >= 0) return this.ticks[on + direction];
    const beyond = (tick) => (direction < 0 ? tick.ms < here : tick.ms > here);
    return direction < 0 ? this.ticks.findLast(beyond) : this.ticks.find(beyond);
  }

  /** What a place on the ruler means: now, a change close by, or the start of a day. */
  #read(place) {
    if (Math.abs(place - this.scale.place(this.clock)) < SNAP / 2) return null;
    const distance = (tick) => Math.abs(this.scale.place(tick.ms) - place);
    const nearest = this.ticks.reduce((best, tick) => (best && distance(best) <= distance(tick) ? best : tick), null);
    if (nearest && distance(nearest) < SNAP) return nearest.at;
    return startOfDay(this.scale.instant(place));
  }

  #draw() {
    const marks = this.ticks.map((tick) => ({ ...tick, place: this.scale.place(tick.ms) }));
    const width = this.marks.clientWidth || 320;
    const labelled = new Set(legible(marks, LABEL_PX / (width - LABEL_PX)));
    const drawn = marks.map((mark) => this.#mark(mark, labelled.has(mark)));
    const now = el("span", { class: "mark now" }, el("b", {}, "now"));
    setPlace(now, this.scale.place(this.clock));
    this.marks.replaceChildren(...drawn, now);
  }

  #mark(mark, labelled) {
    const close = this.scale.place(this.clock) - mark.place < LABEL_PX / (this.marks.clientWidth || 320);
    const drawn = el(
      "span",
      { class: "mark", title: `${day(mark.at)}: ${mark.changes} changed` },
      labelled && !close ? el("b", {}, String(new Date(mark.ms).getUTCFullYear())) : null,
    );
    setPlace(drawn, mark.place);
    drawn.style.setProperty("--high", Math.min(1, 0.35 + 0.22 * Math.log2(mark.changes)));
    return drawn;
  }
}
