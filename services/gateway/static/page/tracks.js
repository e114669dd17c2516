// Spans of valid time, one below the other on one scale, with the years under it and a line where now is.

import { el } from "./dom.js";
import { legible, scaleOver } from "./scale.js";
import { ms } from "./time.js";

const LABEL = 0.13; // of the length: what a year takes on a small screen

const put = (node, name, place) => node.style.setProperty(name, place);

const line = (place) => {
  const drawn = el("span", { class: "here" });
  put(drawn, "--from", place);
  return drawn;
};

/** A scale for spans {valid_from, valid_to}, and what is drawn on it. */
export class Tracks {
  constructor(spans) {
    const edges = spans.flatMap((one) => [one.valid_from, one.valid_to]).filter(Boolean).map(ms);
    this.edges = [...new Set(edges)].sort((a, b) => a - b);
    this.now = Date.now();
    this.scale = scaleOver(this.edges, this.now);
  }

  /** The bar of one span. */
  track({ valid_from: from, valid_to: to }) {
    const [left, right] = [from ? this.scale.place(ms(from)) : 0, to ? this.scale.place(ms(to)) : 1];
    const bar = el("span", { class: "bar" });
    put(bar, "--from", left);
    put(bar, "--long", right - left);
    const node = el("span", { class: "track", "aria-hidden": "true" }, bar, line(this.scale.place(this.now)));
    node.classList.toggle("open-start", !from);
    node.classList.toggle("open-end", !to);
    return node;
  }

  /** The years of the edges, as many as can be read. */
  years() {
    const now = this.scale.place(this.now);
    const marks = this.edges.map((at) => ({ place: this.scale.place(at), text: String(new Date(at).getUTCFullYear()) }));
    const kept = legible([...marks.filter(({ place }) => Math.abs(now - place) >= LABEL), { place: now, text: "now" }], LABEL);
    const labels = kept.map(({ place, text }) => {
      const label = el("b", { class: text === "now" ? "now" : null }, text);
      put(label, "--at", place);
      return label;
    });
    return el("div", { class: "years", "aria-hidden": "true" }, ...labels);
  }
}
