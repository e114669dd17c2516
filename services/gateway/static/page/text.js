// Text: offsets in code points, citation marks, and what changed between two texts.

/** Where the code point with this number begins, in UTF-16 units. The gateway counts code points, JavaScript does not. */
export const utf16Index = (text, points) => {
  let at = 0;
  for (let n = 0; n < points && at < text.length; n += 1) at += text.codePointAt(at) > 0xffff ? 2 : 1;
  return at;
};

/** The text in pieces: {text} or {numbers} for a mark such as [1, 2]. */
export const marked = (text) => {
  const pieces = [];
  let at = 0;
  for (const found of text.matchAll(/\s*\[(\d+(?:, \d+)*)\]/g)) {
    pieces.push({ text: text.slice(at, found.index) }, { numbers: found[1].split(", ").map(Number) });
    at = found.index + found[0].length;
  }
  pieces.push({ text: text.slice(at) });
  return pieces.filter((piece) => piece.numbers || piece.text);
};

export const withoutMarks = (text) => text.replaceAll(/\s*\[\d+(?:, \d+)*\]/g, "");

const MOST_WORDS = 600; // the table of a longer pair would be felt

/** Words with what became of them, [kind, text] with kind "same", "gone" or "new": a longest common subsequence. */
export const difference = (before, after) => {
  const [a, b] = [before, after].map((text) => text.match(/\S+\s*/g) ?? []);
  if (a.length > MOST_WORDS || b.length > MOST_WORDS) return [["gone", before], ["new", after]];
  const alike = (i, j) => a[i].trim() === b[j].trim();
  const longest = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i -= 1)
    for (let j = b.length - 1; j >= 0; j -= 1)
      longest[i][j] = alike(i, j) ? longest[i + 1][j + 1] + 1 : Math.max(longest[i + 1][j], longest[i][j + 1]);
  const runs = [];
  const add = (kind, text) => {
    if (runs.at(-1)?.[0] === kind) runs.at(-1)[1] += text;
    else runs.push([kind, text]);
  };
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && alike(i, j)) {
      add("same", b[j]);
      [i, j] = [i + 1, j + 1];
    } else if (j >= b.length || (i < a.length && longest[i + 1][j] >= longest[i][j + 1])) add("gone", a[i++]);
    else add("new", b[j++]);
  }
  return runs;
};
