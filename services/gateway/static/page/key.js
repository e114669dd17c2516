// The key that this tab sends once the gateway asks for one. It stays with the tab, in no cookie, so that no other site
// can have the browser send it along.

import { el } from "./dom.js";

const KEPT = "almanac-key";
const GIVEN = "#key=";

/** Take the key out of a link that `almanac keys link` printed, and out of sight. */
const take = () => {
  if (!location.hash.startsWith(GIVEN)) return;
  sessionStorage.setItem(KEPT, location.hash.slice(GIVEN.length));
  history.replaceState(null, "", location.pathname + location.search);
};

take();
addEventListener("hashchange", take);

/** The headers of a request, with the key where there is one. */
export const signed = (headers = {}) => {
  const key = sessionStorage.getItem(KEPT);
  return key ? { ...headers, Authorization: `Bearer ${key}` } : headers;
};

const opened = (why) =>
  new Promise((resolve) => {
    const field = el("input", { id: "key", type: "password", autocomplete: "off", required: true });
    const form = el(
      "form",
      { method: "dialog", class: "key" },
      el("label", { for: "key" }, "This almanac opens with a key."),
      field,
      el("p", {}, why),
      el("p", {}, el("button", { type: "submit", value: "open" }, "Open")),
    );
    const dialog = el("dialog", { "aria-label": "A key is needed" }, form);
    dialog.addEventListener("close", () => {
      const given = dialog.returnValue === "open" ? field.value.trim() : "";
      if (given) sessionStorage.setItem(KEPT, given);
      dialog.remove();
      resolve(Boolean(given));
    });
    document.body.append(dialog);
    dialog.showModal();
  });

let asking = null;

/** Ask the reader for a key, once for all requests that wait; false if there is none. */
export const askForKey = (why) => {
  asking ||= opened(why).finally(() => {
    asking = null;
  });
  return asking;
};
