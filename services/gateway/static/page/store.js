// What this browser remembers: the questions asked here, and whether it is day or night.

const read = (key, otherwise) => {
  try {
    return JSON.parse(localStorage.getItem(key)) ?? otherwise;
  } catch {
    return otherwise; // storage may be forbidden, or hold what another version wrote
  }
};

const write = (key, value) => {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch {
    // storage may be forbidden or full: then nothing is remembered
  }
};

const QUESTIONS = "almanac.questions";
const THEME = "almanac.theme";
const MOST = 40;

const same = (one, other) =>
  ["question", "collection", "asOf", "knownAt"].every((name) => (one[name] ?? null) === (other[name] ?? null));

export const questions = () => {
  const kept = read(QUESTIONS, []);
  return Array.isArray(kept) ? kept.filter((one) => typeof one?.question === "string") : [];
};

/** Keep a question; `before` is what it replaces, the same one at the moment it was asked at first. */
export const remember = (asked, before = asked) => {
  const others = questions().filter((one) => !same(one, asked) && !same(one, before));
  write(QUESTIONS, [asked, ...others].slice(0, MOST));
};

export const forget = () => write(QUESTIONS, []);

export const theme = () => read(THEME, null);

export const setTheme = (name) => write(THEME, name);
