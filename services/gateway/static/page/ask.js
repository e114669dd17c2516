// Asking: the question, the moment it is asked at, and asking again when the moment is moved.

import { AnswerView } from "./answer.js";
import { getJson } from "./api.js";
import { announce, byId, el } from "./dom.js";
import { problemNotice } from "./notices.js";
import { Ruler } from "./ruler.js";
import { showSky } from "./sky.js";
import { forget, questions, remember } from "./store.js";
import { withoutMarks } from "./text.js";
import { momentText } from "./time.js";

const MOST_TURNS = 8;

/** A question on the page: asked once, and again whenever the moment is moved. It may lean on those before it. */
class Entry {
  constructor(question, collection, history, { compare, trace }) {
    Object.assign(this, { question, collection, history });
    this.when = el("p", { class: "moment" });
    this.place = el("div", {});
    const button = (onclick, text) => el("button", { type: "button", class: "quiet", onclick }, text);
    const actions = [
      button(() => this.ask(this.wanted), "Ask again"),
      button(() => compare(this), "Compare with another moment"),
      button(() => trace(this), "Every answer there was"),
    ];
    this.node = el(
      "article",
      { class: "entry", "aria-label": question },
      el("h3", { class: "question" }, question),
      this.when,
      this.place,
      el("p", { class: "actions" }, ...actions),
    );
  }

  async ask(moment) {
    this.asking?.abort();
    const asking = (this.asking = new AbortController());
    this.wanted = moment;
    const [before, since] = [this.answered, this.moment];
    this.when.textContent = `${momentText(moment)} · ${this.collection}`;
    const view = new AnswerView(this.collection);
    this.place.replaceChildren(view.node);
    announce("Asking");
    const asked = { question: this.question, history: this.history };
    const answer = await view.ask(asked, moment, asking.signal).catch(() => undefined);
    if (asking.signal.aborted) return;
    announce(answer ? `Answer: ${withoutMarks(answer.answer)}` : "The question was not answered");
    if (!answer) return;
    if (before) view.compareWith(before, `What changed, since it was asked ${momentText(since)}`);
    Object.assign(this, { answered: answer, moment });
    // From now on it stands alone: asked again, compared and traced as it was read.
    if (answer.original) Object.assign(this, { question: answer.question, history: [] });
  }

  /** What a question after this one may lean on. */
  get turns() {
    if (!this.answered) return this.history;
    return [...this.history, { question: this.question, answer: this.answered.answer }].slice(-MOST_TURNS);
  }
}

/** The page that asks. `collection()` names the collection chosen; `compare(entry)` and `trace(entry)` open the other pages. */
export class AskPage {
  constructor({ collection, compare, trace }) {
    Object.assign(this, { collection, others: { compare, trace }, entry: null, moment: { asOf: null, knownAt: null } });
    const asOf = { name: "As of", nowLabel: "Now", moved: (iso) => this.#move({ asOf: iso }), shown: showSky };
    const knownAt = { name: "As known at", nowLabel: "All on record", moved: (iso) => this.#know(iso) };
    this.asOf = new Ruler(byId("as-of"), asOf);
    this.knownAt = new Ruler(byId("known-at"), knownAt);
    this.#listen();
    this.#showDaybook();
  }

  /** The collection chosen has changed, or what is in it. */
  async refresh() {
    const known = this.moment.knownAt ? `?known_at=${encodeURIComponent(this.moment.knownAt)}` : "";
    const path = `/v1/collections/${encodeURIComponent(this.collection())}/changes${known}`;
    try {
      const changes = await getJson(path);
      this.asOf.setTicks(changes.valid);
      this.knownAt.setTicks(changes.recorded);
    } catch (problem) {
      byId("entries").prepend(problemNotice(problem));
    }
  }

  #listen() {
    const field = byId("question");
    byId("ask-form").addEventListener("submit", (event) => {
      event.preventDefault();
      if (field.value.trim()) this.#begin(field.value.trim(), this.#turns());
    });
    field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      byId("ask-form").requestSubmit();
    });
    byId("known-switch").addEventListener("change", (event) => this.#switch(event.target.checked));
    byId("daybook-clear").addEventListener("click", () => {
      forget();
      this.#showDaybook();
      byId("question").focus();
    });
  }

  /** What a question typed now may lean on: those before it, of the same collection. */
  #turns() {
    return this.entry?.collection === this.collection() ? this.entry.turns : [];
  }

  #begin(question, history = []) {
    byId("guide")?.remove();
    this.entry?.asking?.abort();
    this.entry = null;
    this.asOf.flush();
    this.knownAt.flush();
    this.entry = new Entry(question, this.collection(), history, this.others);
    byId("entries").prepend(this.entry.node);
    this.#ask();
  }

  async #ask() {
    const entry = this.entry;
    const asked = { question: entry.question, collection: entry.collection, ...this.moment };
    this.#note(entry, asked);
    await entry.ask({ ...this.moment });
    if (entry.remembered === asked && entry.question !== asked.question) {
      this.#note(entry, { ...asked, question: entry.question });
    }
  }

  #note(entry, asked) {
    remember(asked, entry.remembered);
    entry.remembered = asked;
    this.#showDaybook();
  }

  #move(part) {
    Object.assign(this.moment, part);
    if (this.entry) this.#ask();
  }

  #know(iso) {
    this.#move({ knownAt: iso });
    this.refresh();
  }

  #switch(on) {
    byId("known-at").hidden = !on;
    byId("known-hint").hidden = on;
    if (on || this.moment.knownAt === null) return;
    this.knownAt.show(null);
    this.#know(null);
  }

  /** Ask {question, collection, asOf, knownAt}: the moment is set to that of the question. */
  async again(asked) {
    const moment = { asOf: asked.asOf ?? null, knownAt: asked.knownAt ?? null };
    byId("collection").value = asked.collection;
    byId("known-switch").checked = moment.knownAt !== null;
    this.#switch(moment.knownAt !== null);
    this.moment = moment;
    await this.refresh();
    this.asOf.show(moment.asOf);
    this.knownAt.show(moment.knownAt);
    byId("question").value = asked.question;
    this.#begin(asked.question);
  }

  #showDaybook() {
    const kept = questions();
    byId("daybook-clear").hidden = !kept.length;
    byId("daybook").replaceChildren(
      ...kept.map((asked) =>
        el(
          "li",
          {},
          el("button", { type: "button", class: "plain", onclick: () => this.again(asked) }, asked.question),
          el("span", { class: "hint" }, momentText(asked)),
        ),
      ),
    );
  }
}
