// A document's versions: over valid time, and since when each was on record.

import { documentPath, getJson, latest } from "./api.js";
import { byId, el } from "./dom.js";
import { problemNotice } from "./notices.js";
import { openSource } from "./source.js";
import { exactly, span } from "./time.js";
import { Tracks } from "./tracks.js";

const recorded = (version) =>
  version.recorded_to
    ? `on record from ${exactly(version.recorded_from)} to ${exactly(version.recorded_to)}`
    : `on record since ${exactly(version.recorded_from)}`;

const row = (version, docId, collection, tracks) => {
  const open = (event) => openSource({ ...version, doc_id: docId }, collection, event.currentTarget);
  return el(
    "li",
    { class: version.recorded_to ? "superseded" : "" },
    tracks.track(version),
    el("button", { type: "button", class: "title", onclick: open }, version.dated ? span(version.valid_from, version.valid_to) : "undated"),
    el("span", { class: "hint" }, `${version.title} · ${recorded(version)}${version.recorded_to ? " · superseded" : ""}`),
  );
};

const turn = latest();

/** Show the versions of a document, newest record last. */
export const showVersions = async (docId, collection) => {
  const current = turn();
  byId("versions-section").hidden = false;
  byId("versions-heading").textContent = `Versions of ${docId}`;
  byId("versions").replaceChildren(el("p", { class: "hint" }, "Looking them up…"));
  byId("versions-heading").focus();
  try {
    const { versions } = await getJson(`${documentPath(docId)}/versions?collection=${encodeURIComponent(collection)}`);
    if (!current()) return;
    const tracks = new Tracks(versions);
    const rows = versions.map((version) => row(version, docId, collection, tracks));
    byId("versions").replaceChildren(tracks.years(), el("ol", { class: "versions" }, ...rows));
  } catch (problem) {
    if (current()) byId("versions").replaceChildren(problemNotice(problem));
  }
};

/** Show none, whatever is still on its way. */
export const hideVersions = () => {
  turn();
  byId("versions-section").hidden = true;
  byId("versions").replaceChildren();
};
