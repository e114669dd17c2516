// Instants as people read them, and the sky over them. An instant is an ISO string as the gateway wrote it, or null.

const DAY_MS = 86_400_000;

const FORMATS = {
  long: { day: "numeric", month: "long", year: "numeric" },
  short: { day: "numeric", month: "short", year: "numeric" },
  weekday: { weekday: "long" },
  month: { month: "long" },
};
const writers = Object.fromEntries(
  Object.entries(FORMATS).map(([name, parts]) => [name, new Intl.DateTimeFormat("en-GB", { ...parts, timeZone: "UTC" })]),
);

export const ms = (iso) => Date.parse(iso);

export const day = (iso, form = "long") => writers[form].format(ms(iso));

/** The UTC day an instant lies in, as a date field has it. */
export const dateValue = (iso) => new Date(ms(iso)).toISOString().slice(0, 10);

/** The start of the UTC day that `time` (milliseconds) lies in. */
export const startOfDay = (time) => new Date(Math.floor(time / DAY_MS) * DAY_MS).toISOString().replace(".000Z", "Z");

/** With the time of day, where there is one. */
export const exactly = (iso) => (ms(iso) % DAY_MS ? `${day(iso)}, ${iso.slice(11, 16)} UTC` : day(iso));

export const span = (from, to) => {
  if (!from && !to) return "at all times";
  if (!from) return `until ${day(to)}`;
  return to ? `${day(from)} to ${day(to)}` : `from ${day(from)} on`;
};

export const momentText = ({ asOf, knownAt }) =>
  `${asOf ? `as of ${exactly(asOf)}` : "as of now"}${knownAt ? `, as known at ${exactly(knownAt)}` : ""}`;

const SYNODIC_DAYS = 29.530588853; // Meeus, Astronomical Algorithms (1998), chapter 49
const NEW_MOON = Date.UTC(2000, 0, 6, 18, 14);
const PHASES = [
  "New moon", "Waxing crescent", "First quarter", "Waxing gibbous",
  "Full moon", "Waning gibbous", "Last quarter", "Waning crescent",
];

/** The mean moon's age in turns: 0 is new, 0.5 full. */
export const moonAge = (iso) => {
  const turns = (ms(iso) - NEW_MOON) / DAY_MS / SYNODIC_DAYS;
  return turns - Math.floor(turns);
};

export const moonName = (iso) => PHASES[Math.round(moonAge(iso) * 8) % 8];

/** The outline of the lit part of a moon of radius r around the origin. */
export const moonPath = (age, r) => {
  const waist = Math.cos(2 * Math.PI * age) * r;
  const limb = age < 0.5 ? 1 : 0;
  const bulge = waist > 0 === age < 0.5 ? 0 : 1;
  return `M0,${-r} A${r},${r} 0 0 ${limb} 0,${r} A${Math.abs(waist)},${r} 0 0 ${bulge} 0,${-r}Z`;
};

const SIGNS = [
  [20, "Capricorn", "♑"], [19, "Aquarius", "♒"], [21, "Pisces", "♓"], [20, "Aries", "♈"], [21, "Taurus", "♉"],
  [21, "Gemini", "♊"], [23, "Cancer", "♋"], [23, "Leo", "♌"], [23, "Virgo", "♍"], [23, "Libra", "♎"],
  [22, "Scorpio", "♏"], [22, "Sagittarius", "♐"],
];

/** The sign the sun stands in. The selector after the glyph asks for text, not for a picture. */
export const sunSign = (iso) => {
  const date = new Date(ms(iso));
  const month = date.getUTCMonth();
  const [, name, glyph] = SIGNS[date.getUTCDate() < SIGNS[month][0] ? month : (month + 1) % 12];
  return { name, glyph: `${glyph}\uFE0E` };
};
