// Text: offsets in code points, citation marks, and what changed between two texts.

/** Where the code point with this number begins, in UTF-16 units. The gateway counts code points, JavaScript does not. */
export const utf16Index = (text, points) => {
  let at = 0;
  for (let n = 0; n < points && at < text.length; n += 1) at += text.codePointAt(at) > 0xffff ? 2 : 1;
  return at;
};

/** The text in pieces: {text}, or {numbers, last} for a mark such as [1, 2] and the word that it must not leave. */
export const marked = (text) => {
  const pieces = [];
  let at = 0;
  for (const found of text.matchAll(/(\S{0,24}?)\s*\[(\d+(?:, \d+)*)\]/g)) {
    const [, last, numbers] = found;
    pieces.push({ text: text.slice(at, found.index) }, { last, numbers: numbers.split(", ").map(Number) });
    at = found.index + found[0].length;
  }
  pieces.push({ text: text.slice(at) });
  return pieces.filter((piece) => piece.numbers || piece.text);
};

export const withoutMarks = (text) => text.replaceAll(/\s*\[\d+(?:, \d+)*\]/g, "");

const MOST_WORDS = 600; // the table of a longer pair would be felt
const KEPT_WORDS = 3; // fewer that are alike between two changes are chance, and make neither text easier to read

/** How long a common subsequence of the words a and b can be, from each pair of places on. */
const commonFrom = (a, b, alike) => {
  const longest = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i -= 1)
    for (let j = b.length - 1; j >= 0; j -= 1)
      longest[i][j] = alike(i, j) ? longest[i + 1][j + 1] + 1 : Math.max(longest[i + 1][j], longest[i][j + 1]);
  return longest;
};

/** Stretches of words in turn alike and changed: {same, before, after}, the latter two lists of words. */
const stretches = (a, b) => {
  const alike = (i, j) => a[i].trim() === b[j].trim();
  const longest = commonFrom(a, b, alike);
  const found = [];
  const at = (same) => {
    if (found.at(-1)?.same !== same) found.push({ same, before: [], after: [] });
    return found.at(-1);
  };
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && alike(i, j)) {
      const one = at(true);
      one.before.push(a[i++]);
      one.after.push(b[j++]);
    } else if (j >= b.length || (i < a.length && longest[i + 1][j] >= longest[i][j + 1])) at(false).before.push(a[i++]);
    else at(false).after.push(b[j++]);
  }
  return found;
};

/** Words with what became of them, [kind, text] with kind "same", "gone" or "new". */
export const difference = (before, after) => {
  const [a, b] = [before, after].map((text) => text.match(/\S+\s*/g) ?? []);
  if (a.length > MOST_WORDS || b.length > MOST_WORDS) return [["gone", before], ["new", after]];
  const found = stretches(a, b);
  const kept = (one, n) => one.same && (n === 0 || n === found.length - 1 || one.after.length >= KEPT_WORDS);
  const runs = [];
  let changed = null;
  found.forEach((one, n) => {
    if (kept(one, n)) {
      changed = null;
      runs.push(["same", one.after.join("")]);
      return;
    }
    if (!changed) runs.push(...(changed = [["gone", ""], ["new", ""]]));
    changed[0][1] += one.before.join("");
    changed[1][1] += one.after.join("");
  });
  return runs.filter(([, text]) => text);
};
