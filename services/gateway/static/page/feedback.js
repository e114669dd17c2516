// Whether an answer helped: a thumb up or down, and why.

import { postJson } from "./api.js";
import { announce, el, svg } from "./dom.js";
import { problemNotice } from "./notices.js";

const HAND = "M2,10.5h3.2v9H2z M7,19.5V11l3.6-7.6c1.5,0 2.3,1 2.1,2.6l-.5,3.2h6.1c1.2,0 2,1.1 1.7,2.3l-1.6,6.3c-.3,1-1.1,1.7-2.1,1.7z";
const LONGEST = 1000; // characters of a reason, as the gateway takes them

const hand = (turn) => svg("svg", { class: "hand", viewBox: "0 0 22 22", "aria-hidden": "true" }, svg("path", { d: HAND, transform: turn }));

const thumb = (text, turn, onclick) =>
  el("button", { type: "button", class: "quiet thumb", "aria-pressed": "false", onclick }, hand(turn), text);

/** The form under an answer. The last word said counts, here as at the gateway. */
class Feedback {
  constructor(answerId) {
    this.path = `/v1/answers/${encodeURIComponent(answerId)}/feedback`;
    this.up = thumb("It helped", null, () => this.#judge(true));
    this.down = thumb("It did not", "rotate(180 11 11)", () => this.#judge(false));
    this.reason = el("input", { type: "text", maxlength: LONGEST, autocomplete: "off" });
    this.why = el("span", {});
    this.more = el("form", { class: "reason", hidden: true }, el("label", {}, this.why, this.reason), el("button", { class: "quiet" }, "Send"));
    this.said = el("span", { class: "hint" });
    this.trouble = el("div", {});
    const thumbs = el("div", { class: "thumbs", role: "group", "aria-label": "Did this answer help?" }, this.up, this.down, this.said);
    this.node = el("div", { class: "feedback" }, thumbs, this.more, this.trouble);
    this.more.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send("Noted, with your reason.");
    });
  }

  #judge(helpful) {
    this.helpful = helpful;
    this.why.textContent = helpful ? "What made it so?" : "What was wrong with it?";
    this.more.hidden = false;
    this.#send("Noted.");
  }

  async #send(said) {
    const { helpful } = this;
    this.trouble.replaceChildren();
    this.said.textContent = "";
    try {
      await postJson(this.path, { helpful, note: this.reason.value.trim() });
    } catch (problem) {
      this.trouble.replaceChildren(problemNotice(problem));
      return;
    }
    if (this.helpful !== helpful) return;
    this.up.setAttribute("aria-pressed", String(helpful));
    this.down.setAttribute("aria-pressed", String(!helpful));
    this.said.textContent = said;
    announce(said);
  }
}

export const feedback = (answerId) => new Feedback(answerId).node;
