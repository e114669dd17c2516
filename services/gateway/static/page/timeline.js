// A document's versions: over valid time, and since when each was on record.

import { documentPath, getJson } from "./api.js";
import { byId, el } from "./dom.js";
import { problemNotice } from "./notices.js";
import { scaleOver } from "./scale.js";
import { openSource } from "./source.js";
import { exactly, ms, span } from "./time.js";

const bar = (version, scale, now) => {
  const from = version.valid_from ? scale.place(ms(version.valid_from)) : 0;
  const to = version.valid_to ? scale.place(ms(version.valid_to)) : 1;
  const drawn = el("span", { class: "bar" });
  drawn.style.setProperty("--from", from);
  drawn.style.setProperty("--long", to - from);
  const here = el("span", { class: "here" });
  here.style.setProperty("--from", scale.place(now));
  return el("span", { class: "track", "aria-hidden": "true" }, drawn, here);
};

const recorded = (version) =>
  version.recorded_to
    ? `on record from ${exactly(version.recorded_from)} to ${exactly(version.recorded_to)}`
    : `on record since ${exactly(version.recorded_from)}`;

const row = (version, docId, collection, scale, now) => {
  const open = (event) => openSource({ ...version, doc_id: docId }, collection, event.currentTarget);
  return el(
    "li",
    { class: version.recorded_to ? "superseded" : "" },
    bar(version, scale, now),
    el("button", { type: "button", class: "title", onclick: open }, version.dated ? span(version.valid_from, version.valid_to) : "undated"),
    el("span", { class: "hint" }, `${version.title} · ${recorded(version)}${version.recorded_to ? " · superseded" : ""}`),
  );
};

/** Show the versions of a document, newest record last. */
export const showTimeline = async (docId, collection) => {
  byId("timeline-section").hidden = false;
  byId("timeline-heading").textContent = `Versions of ${docId}`;
  byId("timeline-heading").focus();
  try {
    const { versions } = await getJson(`${documentPath(docId)}/versions?collection=${encodeURIComponent(collection)}`);
    const edges = versions.flatMap((version) => [version.valid_from, version.valid_to]).filter(Boolean).map(ms);
    const now = Date.now();
    const scale = scaleOver([...new Set(edges)].sort((a, b) => a - b), now);
    const rows = versions.map((version) => row(version, docId, collection, scale, now));
    byId("timeline").replaceChildren(el("ol", { class: "versions" }, ...rows));
  } catch (problem) {
    byId("timeline").replaceChildren(problemNotice(problem));
  }
};
