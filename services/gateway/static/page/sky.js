// The head of the page: the date, the moon and the sun's sign at the moment asked about; day or night; the calendar leaf.

import { byId, el, svg } from "./dom.js";
import { setTheme, theme } from "./store.js";
import { day, moonAge, moonName, moonPath, sunSign } from "./time.js";

const RADIUS = 30;

const drawSun = () => {
  const rays = Array.from({ length: 16 }, (_, n) =>
    svg("path", {
      d: n % 2 ? "M-2.4,-34 L0,-44 L2.4,-34Z" : "M-3.4,-34 Q4,-41 0,-49 Q-1,-41 3.4,-34Z",
      transform: `rotate(${n * 22.5})`,
    }),
  );
  const face = svg("path", {
    class: "face",
    d: "M-12,-7 q4,-4 8,0 M4,-7 q4,-4 8,0 M0,-5 q-3,8 -1,10 h2 M-9,13 q9,7 18,0",
  });
  byId("sun").replaceChildren(...rays, svg("circle", { r: RADIUS, class: "disc" }), face);
};

/** Set the head to an instant; null is now. */
export const showSky = (iso) => {
  const at = iso ?? new Date().toISOString();
  const sign = sunSign(at);
  byId("folio-date").textContent = `${day(at, "weekday")}, ${day(at)}`;
  byId("folio-sky").textContent = `${moonName(at)} · Sun in ${sign.name} ${sign.glyph}`;
  byId("moon").setAttribute("aria-label", moonName(at));
  byId("moon").replaceChildren(
    svg("circle", { r: RADIUS, class: "dark" }),
    svg("path", { d: moonPath(moonAge(at), RADIUS), class: "lit" }),
    svg("circle", { r: 38, class: "halo" }),
  );
  const date = new Date(at);
  byId("leaf").replaceChildren(
    el("span", { class: "month" }, day(at, "month")),
    el("span", { class: "day" }, String(date.getUTCDate())),
    el("span", { class: "year" }, String(date.getUTCFullYear())),
    el("span", { class: "foot" }, iso ? day(at, "weekday") : "today"),
  );
};

const dark = () => matchMedia("(prefers-color-scheme: dark)");

const dress = () => {
  const night = theme() ? theme() === "night" : dark().matches;
  document.documentElement.dataset.theme = night ? "night" : "day";
  byId("theme").setAttribute("aria-pressed", String(night));
};

export const startSky = () => {
  drawSun();
  dress();
  dark().addEventListener("change", dress);
  byId("theme").addEventListener("click", () => {
    setTheme(document.documentElement.dataset.theme === "night" ? "day" : "night");
    dress();
  });
};
