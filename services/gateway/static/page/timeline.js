// Every answer there was to a question, each over the time for which it held.

import { latest, postJson } from "./api.js";
import { announce, byId, el } from "./dom.js";
import { problemNotice } from "./notices.js";
import { openSource } from "./source.js";
import { dateValue, exactly, ms, span } from "./time.js";
import { Tracks } from "./tracks.js";

const DAY_MS = 86_400_000;

/** A moment within a span: null for now where it lies in it, else where it begins, else the day before it ends. */
const within = ({ valid_from: from, valid_to: to }, now) => {
  if ((!from || ms(from) <= now) && (!to || ms(to) > now)) return null;
  return from ?? `${dateValue(new Date(ms(to) - DAY_MS).toISOString())}T00:00:00Z`;
};

/** The stretches that no answer covers, before and between the entries. */
const gaps = (entries) => {
  const before = [null, ...entries.map((one) => one.valid_to)];
  return entries.map((one, n) =>
    one.valid_from && (n === 0 || before[n] !== one.valid_from) ? { valid_from: before[n], valid_to: one.valid_from } : null,
  );
};

/** The page of answers over time. `collection()` names the one chosen; `ask({question, collection, asOf, knownAt})` asks it. */
export class TimelinePage {
  constructor({ collection, ask }) {
    Object.assign(this, { collection, ask, turn: latest() });
    byId("timeline-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.show(byId("timeline-question").value.trim(), byId("timeline-known-at").value);
    });
  }

  /** Fill in a question and trace it, as known on a day, "" for all that is on record. */
  prepare(question, asked) {
    byId("timeline-question").value = question;
    byId("timeline-known-at").value = asked?.knownAt ? dateValue(asked.knownAt) : "";
    byId("timeline-form").requestSubmit();
  }

  async show(question, knownOn) {
    if (!question) return;
    const current = this.turn();
    const knownAt = knownOn ? `${knownOn}T00:00:00Z` : null;
    const collection = this.collection();
    byId("timeline-found").replaceChildren(el("p", { class: "waiting" }, "Turning back the pages"));
    announce("Looking for every answer there was");
    try {
      const response = await postJson("/v1/answers/timeline", { question, collection, known_at: knownAt });
      const found = await response.json();
      if (current()) this.#show({ ...found, knownAt });
    } catch (problem) {
      if (current()) byId("timeline-found").replaceChildren(problemNotice(problem));
    }
  }

  #show(found) {
    const { entries, complete } = found;
    const said = entries.length === 1 ? "One answer" : `${entries.length} answers`;
    announce(entries.length ? `${said}: ${entries.map((one) => one.answer).join("; ")}` : "Nothing on record answers this");
    byId("timeline-found").replaceChildren(...(entries.length ? this.#drawn(found, said) : [nothing(complete)]), complete ? "" : incomplete());
  }

  #drawn(found, said) {
    const tracks = new Tracks(found.entries);
    const missing = gaps(found.entries);
    const rows = found.entries.flatMap((one, n) => [missing[n] && gap(missing[n], tracks, found.complete), this.#row(one, found, tracks)]);
    const known = found.knownAt ? `as known at ${exactly(found.knownAt)}` : "by all that is on record";
    return [
      el("h3", { class: "question" }, found.question),
      el("p", { class: "moment" }, `${said}, ${known} · ${found.collection}`),
      tracks.years(),
      el("ol", { class: "versions answers" }, ...rows.filter(Boolean)),
    ];
  }

  #row(entry, found, tracks) {
    const asOf = within(entry, tracks.now);
    const { question, collection, knownAt } = found;
    const again = () => this.ask({ question, collection, asOf, knownAt });
    return el(
      "li",
      { class: asOf === null ? "holds" : "" },
      tracks.track(entry),
      el("p", { class: "told" }, entry.answer),
      el(
        "p",
        { class: "hint" },
        el("span", {}, `${span(entry.valid_from, entry.valid_to)}${asOf === null ? " · the answer now" : ""}`),
        ...entry.citations.map((cited) => sourceButton(cited, collection)),
        el("button", { type: "button", class: "plain", onclick: again }, asOf === null ? "Ask as of now" : "Ask as of then"),
      ),
    );
  }
}

const sourceButton = (cited, collection) => {
  const open = (event) => openSource(cited, collection, event.currentTarget);
  return el("button", { type: "button", class: "plain", "aria-label": `The source: ${cited.title}`, onclick: open }, "The source");
};

const gap = (stretch, tracks, complete) =>
  el(
    "li",
    { class: "gap" },
    tracks.track(stretch),
    el("p", { class: "hint" }, `${span(stretch.valid_from, stretch.valid_to)} · ${complete ? "nothing on record answers" : "not looked into"}`),
  );

const nothing = (complete) =>
  el(
    "div",
    { class: "notice" },
    el("p", {}, el("strong", {}, complete ? "Almanac has no answer to this, at any time." : "Almanac has found no answer to this yet.")),
    el("p", {}, "Nothing on record comes near enough. Ask in other words, or choose another collection."),
  );

const incomplete = () =>
  el("p", { class: "notice" }, "The collection changed more often than is looked into at once: some answers may be missing.");
