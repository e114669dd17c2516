// A ruler's scale: where an instant stands in [0, 1].
//
// Half measure, half rank: equal times would crowd all changes of the last years into one corner of a long history,
// equal ranks would hide how long things lasted.

const RANK = 0.65;

export class Scale {
  /** `instants`: ascending milliseconds, two at least. */
  constructor(instants) {
    this.instants = instants;
    const [first, last] = [instants[0], instants.at(-1)];
    this.places = instants.map(
      (at, n) => (RANK * n) / (instants.length - 1) + ((1 - RANK) * (at - first)) / (last - first || 1),
    );
  }

  place(at) {
    return interpolate(at, this.instants, this.places);
  }

  instant(place) {
    return interpolate(place, this.places, this.instants);
  }
}

const interpolate = (x, xs, ys) => {
  if (x <= xs[0]) return ys[0];
  if (x >= xs.at(-1)) return ys.at(-1);
  const n = xs.findIndex((next) => next > x);
  return ys[n - 1] + ((x - xs[n - 1]) / (xs[n] - xs[n - 1])) * (ys[n] - ys[n - 1]);
};

/** The thinnest choice of marks {place} that stand at least `gap` apart, the last of them kept. */
export const legible = (marks, gap) => {
  const kept = [];
  for (const mark of [...marks].reverse()) if (!kept.length || kept.at(-1).place - mark.place >= gap) kept.push(mark);
  return kept;
};

const YEAR_MS = 31_556_952_000;

/** A scale over ticks (ascending milliseconds) up to now and beyond, with room before the first. */
export const scaleOver = (ticks, now) => {
  const last = Math.max(now, ticks.at(-1) ?? now);
  const first = Math.min(ticks[0] ?? now, now);
  const room = Math.max(YEAR_MS, (last - first) / 20);
  const ends = [first - room, last > now ? last + room : now];
  return new Scale([...new Set([...ends, ...ticks, now])].sort((a, b) => a - b));
};
